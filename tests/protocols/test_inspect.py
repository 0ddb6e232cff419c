"""What `inspect` tells of a file: everything that was planted in it, and nothing that was not."""

import ast
import io
import json
import pickle
import shlex

import numpy as np
import pytest
from rich.console import Console

from mmdjax.data.formats import inspect_file
from mmdjax.data.formats.contents import open_contents, part_rows
from mmdjax.data.formats.inspect_file import describe, inspect
from mmdjax.data.formats.inspect_tables import warnings
from tests.protocols import layout_files
from tests.protocols.layout_files import LAYOUTS

ROWS, FRAMES = 40, 5


def plain(seed: int = 0) -> dict:
    draw = np.random.default_rng(seed)
    return {
        "text": draw.normal(size=(ROWS, FRAMES, 6)).astype("f4"),
        "audio": draw.normal(size=(ROWS, FRAMES, 4)),
        "regression_labels": draw.uniform(-3, 3, ROWS),
        "id": [f"{seed}_{row}" for row in range(ROWS)],
    }


@pytest.fixture
def described(tmp_path):
    def run(tree) -> dict:
        (path := tmp_path / "file.pkl").write_bytes(pickle.dumps(tree))
        found = describe(path)
        json.dumps(found)
        return found

    return run


def printed(path, **terminal) -> str:
    out = io.StringIO()
    inspect(path, Console(file=out, width=140, **terminal))
    return out.getvalue()


def test_a_sound_file_raises_no_suspicion(described):
    found = described({"train": plain(1), "test": plain(2)})
    assert not found["columns"] and not found["shared_ids"] and not warnings(found)
    one = found["splits"]["train"]["keys"]["text"]
    assert one["shape"] == [ROWS, FRAMES, 6] and one["dtype"] == "float32"
    assert one["frames"] == [FRAMES] * 3
    assert not (one["nan_frames"] or one["zero_rows"] or one["missing_rows"])


def test_lengths_and_gaps_are_counted(described):
    tree = plain()
    tree["text"][:10, 2:] = 0  # two frames, by what is not zero
    tree["audio_lengths"] = [1] * 4 + [3] * (ROWS - 4)
    tree["audio"][7, 1, 2] = tree["audio"][7, 2, 1:3] = np.nan
    tree["audio"][9, 4] = np.nan  # padding: beyond its length
    tree["text"][20:23] = 0
    tree["text_observed"] = np.arange(ROWS) >= 5
    keys = described(tree)["splits"]["all"]["keys"]
    assert keys["text"]["frames"] == [1, 5, 5] and keys["audio"]["frames"] == [1, 3, 3]
    assert keys["audio"]["nan_frames"] == 2
    assert keys["audio"]["nan_share"] == pytest.approx(3 / ((4 + 3 * (ROWS - 4)) * 4))
    assert keys["text"]["zero_rows"] == 3 and keys["text"]["missing_rows"] == 5


@pytest.mark.parametrize("block", [200, 2**22])
def test_suspicious_columns_are_named(block, described, monkeypatch):
    monkeypatch.setattr(inspect_file, "_BLOCK", block)
    tree = plain()
    tree["text"][..., 1] = 7
    tree["text"][..., 4] = tree["text"][..., 2]
    tree["text"][3, 2, 5] = -np.inf
    tree["audio"][..., 2] *= 1e5
    tree["audio"][..., 3] = tree["regression_labels"][:, None] * -4 + 1
    found = described(tree)["columns"]
    assert found["text"] == {"constant": [1], "identical": [[4, 2]], "infinite": [[5, 1.0]]}
    assert [column for column, _ in found["audio"]["scale"]] == [2]
    assert found["audio"]["label"] == [[3, 1.0]] and set(found["audio"]) == {"scale", "label"}


def test_columns_that_differ_by_one_entry_are_not_identical(described):
    tree = plain()
    tree["text"][..., 4] = tree["text"][..., 2]
    tree["text"][ROWS - 1, FRAMES - 1, 4] += 1
    assert "text" not in described(tree)["columns"]


def test_blocks_do_not_show(tmp_path, monkeypatch):
    for name in ("MMSA", "csd folder", "npz with a column"):
        path = LAYOUTS[name](tmp_path)
        whole = describe(path)
        with monkeypatch.context() as patch:
            patch.setattr(inspect_file, "_BLOCK", 1)
            assert describe(path)["splits"] == whole["splits"]


def test_ids_of_two_splits_are_leakage(described):
    tree = {"train": plain(1), "valid": plain(2), "test": plain(3)}
    tree["test"]["id"][:3] = tree["train"]["id"][5:8]
    tree["valid"]["id"][1] = tree["valid"]["id"][0]
    found = described(tree)
    expected = {"splits": ["train", "test"], "count": 3, "examples": ["1_5", "1_6", "1_7"]}
    assert found["shared_ids"] == [expected] and found["splits"]["valid"]["repeated_ids"] == 1
    assert any("leakage" in line for line in warnings(found))


def test_labels_are_counted_by_value_or_in_bins(described):
    tree = plain()
    (one,) = described(tree)["splits"]["all"]["label"]  # sentiment: seven classes
    assert one["values"] == [-3, -2, -1, 0, 1, 2, 3] and sum(one["counts"]) == ROWS
    tree["regression_labels"] = np.arange(ROWS) % 4
    (one,) = described(tree)["splits"]["all"]["label"]
    assert one["values"] == [0, 1, 2, 3] and one["counts"] == [10] * 4
    tree["regression_labels"] = np.r_[np.arange(ROWS - 10.0), [np.nan] * 10]
    (one,) = described(tree)["splits"]["all"]["label"]
    assert one["labelled"] == 30 and len(one["edges"]) == 8 and (one["min"], one["max"]) == (0, 29)
    tree["regression_labels"] = np.ones((ROWS, 3))
    assert len(described(tree)["splits"]["all"]["label"]) == 3


@pytest.mark.parametrize("name", LAYOUTS)
def test_suggested_flag_names_what_is_in_the_file(name, tmp_path):
    path = LAYOUTS[name](tmp_path)
    flag = describe(path)["suggestion"]
    (word,) = shlex.split(flag)
    pairs = ast.literal_eval(word.removeprefix("--config.data.modalities="))
    names = [pair.rsplit(":", 1)[1] for pair in pairs]
    assert len(pairs) == len(set(names)) >= (1 if name == "csd segments" else 2)
    assert all(one.isidentifier() for one in names)
    with open_contents(path) as opened:
        for part in opened.splits.values():
            for pair in pairs:
                part_rows(part, pair.rsplit(":", 1)[0])


def test_the_printed_command_is_one_line_that_the_shell_takes_apart_as_meant(tmp_path):
    path = tmp_path / "a folder" / "features of mine.npz"
    path.parent.mkdir()
    rows = {"text": np.ones((ROWS, 5, 3)), "audio's": np.ones((ROWS, 4, 2))}
    np.savez(path, **rows, label=np.arange(ROWS) % 7 - 3.0)
    console = Console(file=io.StringIO(), width=60)
    inspect(path, console)
    lines = console.file.getvalue().splitlines()
    words = shlex.split(lines[lines.index("to train on it:") + 1])
    assert words[:3] == ["mmdjax", "--config=auto", "--workdir=runs/features_of_mine"]
    assert words[3] == f"--config.data.path={path}"
    pairs = ast.literal_eval(words[4].removeprefix("--config.data.modalities="))
    assert pairs == ("text:language", "audio's:acoustic") and len(words) == 5


def test_suggested_names_are_the_fields(tmp_path):
    flag = describe(layout_files.mmin(tmp_path))["suggestion"]
    expected = "('A/comparE:acoustic','L/bert_large:language','V/denseface:vision')"
    assert flag == f'--config.data.modalities="{expected}"'


@pytest.mark.parametrize("name", LAYOUTS)
def test_everything_is_printed(name, tmp_path):
    path = LAYOUTS[name](tmp_path)
    shown = printed(path)
    with open_contents(path) as opened:
        for split, part in opened.splits.items():
            assert split in shown and all(key in shown for key in part.features)
        assert all(note.split(":")[0] in " ".join(shown.split()) for note in opened.notes)
    assert "--config.data.modalities=" in shown and "reading" not in shown


def test_names_cannot_steer_the_terminal(tmp_path):
    tree = {
        "text\x1b[2J[bold]\n": np.ones((3, 4, 2)),
        "audio": np.ones((3, 4, 2)),
        "id": ["\x1b[1m"] * 3,
    }
    (path := tmp_path / "file.pkl").write_bytes(pickle.dumps(tree))
    shown = printed(path)
    assert "\x1b" not in shown and r"text\x1b[2J[bold]\n" in shown


def test_a_bar_shows_where_it_takes_long(tmp_path, monkeypatch):
    monkeypatch.setattr(inspect_file, "_PATIENCE", -1)
    assert "reading" in printed(layout_files.mmsa(tmp_path), force_terminal=True)
