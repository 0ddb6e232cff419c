"""The field's pickles: how they become batches, and what is refused."""

import dataclasses
import logging
import os
import pathlib
import pickle

import numpy as np
import pytest

from mmdjax.config import Data, Labels
from mmdjax.data import pipeline
from mmdjax.data.sources import mmsa
from tests.protocols.test_safe_pickle import refusal

NAMES = {"text": "language", "audio": "acoustic", "vision": "timing"}
REAL = pathlib.Path(os.environ.get("MMDJAX_MOSI", "aligned_50.pkl"))  # a real file, if any


def split(rows: int, seed: int = 0, frames: int = 6) -> dict:
    """An aligned split: row i has i % frames + 1 words."""
    draw = np.random.default_rng(seed)
    words = np.arange(rows) % frames + 1
    here = (np.arange(frames) < words[:, None])[..., None]
    part = {
        key: np.where(here, draw.uniform(1, 2, (rows, frames, width)), 0).astype(kind)
        for key, width, kind in (("text", 4, "f2"), ("audio", 3, "f4"), ("vision", 2, "f8"))
    }
    part["regression_labels"] = draw.uniform(-3, 3, rows)
    part["id"] = [f"video{seed}$_${row}" for row in range(rows)]
    part["raw_text"] = np.array(["words"] * rows, object)
    return part


@pytest.fixture
def tree():
    return {"train": split(8, 1), "valid": split(3, 2), "test": split(5, 3)}


@pytest.fixture
def read(tmp_path):
    def written(tree, modalities=None, protocol=4):
        path = tmp_path / "mosi.pkl"
        path.write_bytes(pickle.dumps(tree, protocol))
        return mmsa.read(path, NAMES if modalities is None else modalities)

    return written


def put(split_, key, value):
    """An edit: `value` at `key`, or, for a function, what it makes of the value there."""

    def edit(tree):
        part = tree[split_]
        part[key] = value(part[key]) if callable(value) else value

    return edit


def at(index, value):
    def edit(array_):
        array_ = np.array(array_)
        array_[index] = value
        return array_

    return edit


def drop(*keys):
    def edit(tree):
        for key in keys[:-1]:
            tree = tree[key]
        del tree[keys[-1]]

    return edit


BAD_FILES = {
    "missing split": (drop("valid"), ["'valid'", "missing", "'train', 'test'"]),
    "split is a list": (lambda tree: tree.update(test=[]), ["'test'", "list"]),
    "NaN": (
        put("train", "audio", at((5, 2, 1), np.nan)),
        ["'train'", "'audio'", "row 5, frame 2, column 1", "nan"],
    ),
    "infinity": (
        put("test", "text", at((4, 0, 3), np.inf)),
        ["'test'", "'text'", "row 4, frame 0, column 3", "inf"],
    ),
    "beyond float32": (put("valid", "vision", at((2, 1, 0), 1e300)), ["row 2", "1e+300"]),
    "label is NaN": (
        put("valid", "regression_labels", at(1, np.nan)),
        ["'valid'", "'regression_labels'", "row 1", "nan", "finite numbers"],
    ),
    "label is infinite": (
        put("train", "regression_labels", at(6, np.inf)),
        ["'train'", "row 6", "inf", "finite numbers"],
    ),
    "label is a word": (put("test", "regression_labels", list("abcde")), ["row 0", "str"]),
    "labels of rank 2": (put("test", "regression_labels", np.zeros((5, 2))), ["(5, 2)", "(N, 1)"]),
    "labels are missing": (drop("test", "regression_labels"), ["'test'", "'regression_labels'"]),
    "labels of other rows": (
        put("test", "regression_labels", np.zeros(4)),
        ["'regression_labels'", "4 rows", "allowed: 5"],
    ),
    "ids of other rows": (put("train", "id", ["a"]), ["'id'", "1 rows", "allowed: 8"]),
    "id is a list": (put("valid", "id", [[1], [2], [3]]), ["'id'", "row 0", "list"]),
    "wrong rank": (
        put("train", "audio", np.zeros((8, 3))),
        ["'train'", "'audio'", "2 dimensions", "(8, 3)", "(N, T, C)"],
    ),
    "rows differ": (
        put("valid", "vision", np.zeros((2, 6, 2))),
        ["'valid'", "'vision'", "2 rows", "allowed: 3", "'text'"],
    ),
    "T differs": (
        put("test", "text", np.zeros((5, 7, 4))),
        ["'test'", "'text'", "7 frames", "allowed: 6"],
    ),
    "C differs": (
        put("valid", "audio", np.zeros((3, 6, 9))),
        ["'valid'", "'audio'", "9 columns", "of 3"],
    ),
    "empty split": (lambda tree: tree.update(valid=split(0)), ["'valid'", "empty", "(0, 6, 4)"]),
    "words for numbers": (
        put("train", "audio", np.full((8, 6, 3), "a")),
        ["'audio'", "<U1", "float16, float32 or float64"],
    ),
    "objects for numbers": (
        put("train", "audio", np.full((8, 6, 3), None)),
        ["'audio'", "object", "float16, float32 or float64"],
    ),
    "list for an array": (put("train", "audio", [[0.0]]), ["'audio'", "list"]),
    "length beyond T": (
        put("test", "audio_lengths", [1, 2, 7, 1, 1]),
        ["'audio_lengths'", "row 2", "is 7", "0 to 6"],
    ),
    "length below zero": (
        put("test", "audio_lengths", np.array([1, -1, 1, 1, 1])),
        ["row 1 is -1"],
    ),
    "length and a half": (put("test", "audio_lengths", [1.5] * 5), ["row 0 is 1.5"]),
    "lengths of other rows": (put("test", "audio_lengths", [1]), ["'audio_lengths'", "1 rows"]),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file_is_refused_by_name(name, tree, read):
    edit, pieces = BAD_FILES[name]
    edit(tree)
    message = refusal(tree, read)
    for piece in ["mosi.pkl", *pieces]:
        assert piece in message


def test_a_label_beyond_the_range_of_the_task_is_refused_by_name(tree, read, tmp_path):
    """Its reader takes any number; of sentiment, 3.5 is none."""
    put("train", "regression_labels", at(6, 3.5))(tree)
    assert read(tree)["train"].label[6] == 3.5
    pairs = tuple(f"{key}:{name}" for key, name in NAMES.items())
    data = Data(name="mmsa", path=str(tmp_path / "mosi.pkl"), modalities=pairs)

    def dataset(path):
        labels = Labels(low=-3.0, high=3.0)
        return pipeline.dataset(dataclasses.replace(data, path=path), labels, tmp_path / "cache")

    message = refusal(data.path, dataset)
    for piece in ["mosi.pkl", "split 'train'", "utterance 'video1$_$6'", "3.5", "-3", "3"]:
        assert piece in message


BAD_MAPPINGS = {
    "empty": ({}, ["{}", "a mapping"]),
    "a list": (["text"], ["['text']", "a mapping"]),
    "same name twice": ({"text": "a", "audio": "a"}, ["'a'", "once"]),
    "name is no name": ({"text": 3}, ["3", "a mapping"]),
    "unknown key": ({"text": "a", "video": "b"}, ["'video'", "'text', 'audio', 'vision'"]),
}


@pytest.mark.parametrize("name", BAD_MAPPINGS)
def test_bad_mapping_is_refused_by_name(name, tree, read):
    modalities, pieces = BAD_MAPPINGS[name]
    message = refusal(tree, read, modalities)
    for piece in pieces:
        assert piece in message


@pytest.mark.parametrize("value", [[], np.zeros(3), None])
def test_top_level_must_be_a_dict(value, read):
    message = refusal(value, read)
    assert type(value).__name__ in message and "'train', 'valid', 'test'" in message


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_aligned_file_round_trip(protocol, tree, read):
    batches = read(tree, protocol=protocol)
    assert list(batches) == ["train", "valid", "test"]
    for name, batch in batches.items():
        part, rows = tree[name], len(tree[name]["id"])
        assert batch.modalities == tuple(NAMES.values()) and len(batch) == rows
        for key, modality in NAMES.items():
            x = batch.features[modality]
            assert x.dtype == np.float32 and x.flags.writeable
            np.testing.assert_array_equal(x, part[key].astype(np.float32))
            np.testing.assert_array_equal(batch.valid[modality].sum(1), np.arange(rows) % 6 + 1)
        assert batch.label.dtype == np.float32 and batch.id.dtype.kind == "U"
        np.testing.assert_allclose(batch.label, part["regression_labels"], rtol=1e-6)
        assert batch.id.tolist() == part["id"]


def test_order_and_choice_of_modalities_are_the_mappings(tree, read):
    batch = read(tree, {"vision": "timing", "text": "language"})["test"]
    assert batch.modalities == ("timing", "language")
    assert batch.features["timing"].shape == (5, 6, 2)


def test_blocks_do_not_show(tree, read, monkeypatch):
    tree["train"]["audio"][3, 0, 1] = -np.inf
    whole = read(tree)
    monkeypatch.setattr(mmsa, "_BLOCK", 20)
    for name, batch in read(tree).items():
        for modality in batch.modalities:
            np.testing.assert_allclose(
                batch.features[modality], whole[name].features[modality], rtol=1e-6
            )
            np.testing.assert_array_equal(batch.valid[modality], whole[name].valid[modality])


def test_one_array_under_two_keys_stays_two_modalities(tree, read):
    for part in tree.values():
        part["vision"] = part["audio"]
        part["audio_lengths"] = [1] * len(part["id"])
    batch = read(tree)["train"]
    assert not batch.features["acoustic"][:, 1:].any()
    assert batch.features["timing"][5, 1:].all()


def test_only_trailing_zero_frames_are_padding(tree, read):
    for key in NAMES:
        tree["test"][key][3] = 0
    tree["test"]["audio"][3, 2] = 1  # frames 0 and 1 are silent, but there
    tree["test"]["audio"][4, :] = 0  # text and vision still have all of row 4's five frames
    batch = read(tree)["test"]
    for modality in batch.modalities:
        np.testing.assert_array_equal(batch.valid[modality].sum(1), [1, 2, 3, 3, 5])


def test_row_of_zeros_has_one_frame(tree, read):
    for key in NAMES:
        tree["valid"][key][1] = 0
    np.testing.assert_array_equal(read(tree)["valid"].valid["language"].sum(1), [1, 1, 3])


@pytest.mark.parametrize("kind", [list, np.array, lambda x: np.array(x, float)[:, None]])
def test_unaligned_lengths_decide(kind, tree, read):
    lengths = {"train": [9, 8, 7, 6, 5, 4, 3, 0], "valid": [1, 2, 9], "test": [2, 2, 2, 2, 2]}
    for name, part in tree.items():
        part["audio"] = np.ones((len(part["id"]), 9, 3), np.float32)
        part["audio_lengths"] = kind(lengths[name])
    for name, batch in read(tree).items():
        frames = np.maximum(lengths[name], 1)
        np.testing.assert_array_equal(batch.valid["acoustic"].sum(1), frames)
        np.testing.assert_array_equal(batch.features["acoustic"].sum((1, 2)), 3 * frames)
        words = np.arange(len(batch)) % 6 + 1
        np.testing.assert_array_equal(batch.valid["language"].sum(1), words)


def test_without_lengths_different_frame_counts_are_not_shared(tree, read):
    for part in tree.values():
        part["audio"] = np.zeros((len(part["id"]), 9, 3), np.float32)
        part["audio"][:, 7] = 1
    batch = read(tree)["valid"]
    np.testing.assert_array_equal(batch.valid["acoustic"].sum(1), [8, 8, 8])
    np.testing.assert_array_equal(batch.valid["language"].sum(1), [1, 2, 3])


def test_minus_infinity_becomes_the_training_mean_and_is_logged(tree, read, caplog):
    tree["train"]["audio"][2, 1, 0] = -np.inf
    tree["test"]["audio"][4, 0, :] = -np.inf
    words = np.arange(6) < (np.arange(8) % 6 + 1)[:, None]
    finite = np.where(np.isfinite(tree["train"]["audio"]), tree["train"]["audio"], np.nan)
    mean = np.nanmean(finite[words], axis=0)
    with caplog.at_level(logging.WARNING, "mmdjax"):
        batches = read(tree)
    np.testing.assert_allclose(batches["train"].features["acoustic"][2, 1, 0], mean[0], rtol=1e-6)
    np.testing.assert_allclose(batches["test"].features["acoustic"][4, 0], mean, rtol=1e-6)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2 and all("'audio'" in line and "\n" not in line for line in lines)
    assert "'train', key 'audio': 1 " in lines[0] and "'test', key 'audio': 3 " in lines[1]


def test_minus_infinity_beyond_the_length_is_padding(tree, read, caplog):
    tree["valid"]["audio_lengths"] = [1, 1, 1]
    tree["valid"]["audio"][0, 5, 0] = -np.inf
    assert not read(tree)["valid"].features["acoustic"][:, 1:].any()
    assert not caplog.records


def test_column_without_a_finite_training_entry_becomes_zero(tree, read):
    tree["train"]["audio"][:, :, 1] = -np.inf
    batch = read(tree)["train"]
    assert not batch.features["acoustic"][..., 1].any()
    assert batch.features["acoustic"][0, 0, 0] != 0


def test_half_precision_minus_infinity_is_seen(tree, read):
    tree["train"]["text"][0, 0, 2] = -np.inf
    x = read(tree)["train"].features["language"]
    assert x.dtype == np.float32 and 1 <= x[0, 0, 2] <= 2


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (None, ["0", "1", "2"]),
        (np.array([7, 8, 9]), ["7", "8", "9"]),
        (np.array([["a"], ["b"], ["c"]]), ["a", "b", "c"]),
        ([b"a", "b", 3], ["a", "b", "3"]),
    ],
)
def test_ids_are_words_and_numbered_where_missing(value, names, tree, read):
    del tree["valid"]["id"]
    if value is not None:
        tree["valid"]["id"] = value
    assert read(tree)["valid"].id.tolist() == names


def test_labels_may_be_a_column(tree, read):
    tree["test"]["regression_labels"] = np.array([[-3], [3], [0], [1], [2]])
    assert read(tree)["test"].label.tolist() == [-3, 3, 0, 1, 2]


def test_real_aligned_mosi():
    if not REAL.exists():
        pytest.skip(f"no real file: MMDJAX_MOSI names none ({REAL})")
    batches = mmsa.read(REAL, NAMES)
    assert {name: len(batch) for name, batch in batches.items()} == {
        "train": 1284,
        "valid": 229,
        "test": 686,
    }
    frames = {name: batch.valid["language"].sum(1) for name, batch in batches.items()}
    assert frames["train"].mean() == pytest.approx(11.985, abs=5e-4)
    assert np.concatenate(list(frames.values())).mean() == pytest.approx(12.4, abs=0.05)
    for batch in batches.values():
        for modality in batch.modalities:
            assert np.isfinite(batch.features[modality]).all()
            assert not batch.features[modality][~batch.valid[modality]].any()
