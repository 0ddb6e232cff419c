"""The benchmark against a reader's clone of IMDer, with a clone of three lines in place of it."""

import sys

import pytest

from benchmarks import imder_checkout, vs_imder
from mmdjax.errors import UserError
from mmdjax.methods.recipes import RECIPES

SCORE_MODEL = """
from ...subNets.transformers_encoder.transformer import ENCODER
from .beside import BESIDE
FOUND = ENCODER + BESIDE
"""


@pytest.fixture
def checkout(tmp_path):
    """A clone whose packages cannot be imported as a whole, as without the toolkit's needs."""
    model = tmp_path / "trains" / "singleTask" / "model"
    transformer = tmp_path / "trains" / "subNets" / "transformers_encoder"
    for folder in (model, transformer):
        folder.mkdir(parents=True)
    for folder in (tmp_path / "trains", model, transformer.parent, transformer):
        (folder / "__init__.py").write_text("raise ImportError('the whole toolkit')")
    (model / "scoremodel.py").write_text(SCORE_MODEL)
    (model / "beside.py").write_text("BESIDE = 'beside'")
    (transformer / "transformer.py").write_text("ENCODER = 'encoder, '")
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] == "trains"]:
        del sys.modules[name]


def test_only_the_score_model_and_what_it_imports_is_executed(checkout):
    assert imder_checkout.load(str(checkout)).FOUND == "encoder, beside"


def test_a_folder_that_is_no_clone_is_refused_in_one_line(tmp_path, monkeypatch, capsys):
    with pytest.raises(UserError, match="allowed: a clone of IMDer's repository"):
        imder_checkout.load(str(tmp_path))
    arguments = [f"--imder={tmp_path}", f"--workdir={tmp_path / 'out'}"]
    monkeypatch.setattr(sys, "argv", ["vs_imder", *arguments])
    with pytest.raises(SystemExit) as error:
        vs_imder.main()
    assert error.value.code == 2
    assert "a clone of IMDer's repository" in capsys.readouterr().err


def test_both_of_imders_ways_and_all_recipes_of_both_networks_are_timed():
    listed = vs_imder.cases("clone", smoke=False)
    for batch in (32, 1):
        part = [c for c in listed if c["batch"] == batch]
        assert [c["name"] for c in part[:2]] == ["IMDer, as installed", "IMDer, malloc raised"]
        assert len(part) == 2 + 2 * len(vs_imder.RECIPES)
    assert {c["nfe"] for c in listed if c["name"] == "mmdjax"} == {8, 4, 2, 1}
    assert set(vs_imder.RECIPES) <= set(RECIPES)


def test_what_is_printed_compares_with_the_better_of_imders_times():
    rows = []
    for name, network, nfe, seconds in (
        ("IMDer, as installed", "U-Net", 100, 8.0),
        ("IMDer, malloc raised", "U-Net", 100, 6.0),
        ("mmdjax", "compact, prefix", 1, 0.03),
    ):
        about = {"name": name, "network": network, "recipe": "r", "nfe": nfe, "batch": 32}
        rows.append(about | {"seconds": seconds, "quartiles": (seconds, seconds)})
    ((title, header, body),) = vs_imder.sections(rows)
    assert title == "Batch 32" and header[-1] == "times IMDer's best"
    assert [line[-1] for line in body] == ["0.8", "1.0", "200.0"]
    assert len(vs_imder.chart(rows).axes) == 1
