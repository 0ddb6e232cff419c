"""Several systems in one run: shared stages, the numbers of single runs, going on, the report."""

import json

import numpy as np
import pytest

from mmdjax import comparison, experiment
from mmdjax import config as configs
from mmdjax.errors import UserError
from mmdjax.evaluation import comparison_tables, published, tables
from tests.conftest import TINY

DDIM = {"name": "DDIM 3", "published": "Speed"}
SYSTEMS = (
    DDIM,
    {"name": "Euler 4", "changes": ("diffusion.sampler=euler_maruyama", "diffusion.nfe=4")},
    {"name": "no decoder", "published": "w/o alignment", "changes": ("decoder.use=False",)},
    {"name": "one draw", "changes": ("evaluation.draws=2",), "method": "diffusion_k1"},
    {"name": "zeros", "changes": ("fills=('zero',)",), "method": "zero"},
    {"name": "zeros, trained", "changes": ("fills=('zero',)",), "method": "zero_trained"},
)
VALUES = TINY | {
    "title": "Small comparison",
    "fills": ("draws",),
    "seeds": (0, 1),
    "rounds": 2,
    "classifier_training": {"epochs": 2, "batch": 16},
    "score_training": {"epochs": 2, "batch": 16},
    "stage2_training": {"epochs": 2, "batch": 16},
    "evaluation": {"draws": 1, "batch": 16},
    "comparison": {
        "systems": SYSTEMS,
        "tables": ("thesis 6.11", "thesis 6.10"),
        "complete": True,
        "pictures": 12,
        "iterations": 100,
    },
}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("comparison")
    return workdir, comparison.run(configs.from_dict(VALUES), workdir)


def without_times(rows) -> list:
    return [(r["method"], r["protocol"], r["condition"], r["metric"], r["seed"], r["value"])
            for r in rows if r["metric"] != "seconds"]  # fmt: skip


def test_common_stages_are_trained_once(done):
    workdir, _ = done
    made = [path.name.partition("-")[0] for path in (workdir / "checkpoints").iterdir()]
    # Three ways to draw, of which two are the same draws: with and without decoder.
    expected = {"classifier": 1, "score": 1, "completions": 2, "draws": 3, "zero": 1}
    assert {name: made.count(name) for name in set(made)} == expected


def test_a_system_has_the_numbers_of_a_run_of_its_own(done, tmp_path):
    _, rows = done
    values = {k: v for k, v in VALUES.items() if k != "comparison"}
    values["decoder"] = TINY["decoder"] | {"use": False}
    alone = experiment.run(configs.from_dict(values), tmp_path)
    ours = [r for r in rows if r["system"] == "no decoder"]
    assert without_times(ours) == without_times(alone)
    assert not any(r["method"] == "diffusion_aligned" for r in alone)


def test_going_on_makes_nothing_again_and_the_report_holds_every_row(done, monkeypatch):
    workdir, rows = done
    monkeypatch.setattr(comparison, "TwoStage", None)  # whoever builds a system fails
    assert comparison.run(configs.from_dict(VALUES), workdir) == rows
    text = (workdir / "report.md").read_text()
    for system in SYSTEMS:
        assert f"| {system['name']} |" in text
    for name in ("linear probe", "Bayes optimum", "DDIM 3, published", "thesis 6.11"):
        assert name in text
    figures = {path.name for path in (workdir / "figures").iterdir()}
    drawn = {"comparison.png", "quality_and_time.png", "missing_rate.png"}
    assert figures == drawn | {"tsne_l.png", "tsne_a.png", "tsne_v.png"}
    costs = json.loads((workdir / "draw_costs.json").read_text())
    assert sorted(c["nfe"] for c in costs.values()) == [3, 3, 3, 4]
    assert all(0 < c["quartiles"][0] <= c["seconds"] for c in costs.values())


def test_averages_are_over_the_patterns_that_the_published_table_counts(done):
    _, rows = done
    config = configs.from_dict(VALUES)
    systems, draws = config.comparison.systems, {s["name"]: 1 for s in SYSTEMS}
    zeros = [r for r in rows if r["system"] == "zeros" and r["method"] == "zero"]
    patterns = tables.patterns(zeros)
    rates = ["0.3", "0.5", "0.7"]
    for complete in (True, False):
        shown = comparison_tables.shown_rows(rows, systems, draws, complete)
        counted = {"fixed": patterns if complete else patterns[:-1]}
        counted["random"] = ["0.0", *rates] if complete else rates
        for protocol, wanted in counted.items():
            same = {"protocol": protocol, "metric": "mae", "seed": 0}
            own = [r["value"] for r in tables.select(zeros, **same) if r["condition"] in wanted]
            averages = tables.select(shown, method="zeros", condition="average", **same)
            assert [r["value"] for r in averages] == [pytest.approx(np.mean(own))]


@pytest.mark.parametrize(
    ("values", "text", "deviation"),
    [
        ([1.0], "one seed", np.nan),
        ([0.5, 1.5], "yes, higher", 0.9),
        ([-0.5, -1.5], "yes, lower", 0.9),
        ([0.5, 1.5], "no", 1.1),
    ],
)
def test_a_difference_counts_beyond_the_deviation_over_seeds(values, text, deviation):
    assert comparison_tables.verdict(np.array(values), deviation).startswith(text)


@pytest.mark.parametrize(
    ("comparison_values", "words"),
    [
        ({"systems": (DDIM, DDIM)}, "different names"),
        ({"systems": (DDIM | {"changes": ("data.train=3",)},)}, "the same for all"),
        ({"systems": (DDIM | {"changes": ("seeds=(4,)",)},)}, "the same for all"),
        ({"systems": (DDIM | {"changes": ("diffusion.sampler=ode",)},)}, "ode"),
        ({"systems": (DDIM | {"method": "magic"},)}, "allowed: diffusion"),
        ({"systems": (DDIM,), "tables": ("thesis 1.1",)}, "thesis 6.1"),
        ({"systems": (DDIM,), "tables": ("thesis 6.1",), "dataset": "MOSEI"}, "MOSI"),
    ],
)
def test_a_mistake_is_told_before_anything_is_written(comparison_values, words, tmp_path):
    config = configs.from_dict(VALUES | {"comparison": comparison_values})
    with pytest.raises(UserError, match=words):
        comparison.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_published_numbers_are_the_papers():
    rows = {(r["method"], r["condition"]): r for r in published.results("thesis 6.1", "MOSI")}
    found = rows["VP U-Net Euler100", "l+a"]
    metrics = [found[m] for m in ("acc2_nonzero", "f1_nonzero", "acc7")]
    assert metrics == pytest.approx([0.864, 0.863, 0.454])
    networks = {r["network"]: r["parameters_M"] for r in published.efficiency()}
    assert networks["ScoreTransformer1D"] == 3.2 and networks["DiT"] == 9.3
