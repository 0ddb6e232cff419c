"""A data set is known by its content, wherever its file lies and whenever it was copied."""

import os
import shutil

import numpy as np
import pytest

from mmdjax.config import Data
from mmdjax.data import pipeline
from mmdjax.data.sources import synthetic
from mmdjax.data.sources.synthetic_conversations import read
from mmdjax.errors import UserError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMDJAX_CACHE", str(tmp_path / "cache"))


def of(path) -> str:
    return pipeline.fingerprint(Data(name="mmsa", path=str(path), modalities=("a:a", "b:b")))


def test_copies_and_touched_files_are_the_same_data_and_changed_ones_are_not(tmp_path):
    first, copy = tmp_path / "first.pkl", tmp_path / "copy.pkl"
    first.write_bytes(b"one")
    shutil.copy(first, copy)
    os.utime(copy, (1, 1))
    assert of(first) == of(copy)
    copy.write_bytes(b"two")
    assert of(first) != of(copy)
    with pytest.raises(UserError, match="not a file"):
        of(tmp_path / "none.pkl")


def test_conversations_are_known_by_every_array():
    first, same, other = (conversations(seed) for seed in (0, 0, 1))
    assert pipeline.fingerprint_of(first) == pipeline.fingerprint_of(same)
    assert pipeline.fingerprint_of(first) != pipeline.fingerprint_of(other)
    same["test"].talk.speaker[0] += 1
    assert pipeline.fingerprint_of(first) != pipeline.fingerprint_of(same)


def conversations(seed: int):
    return read(3, 2, 2, seed)


def test_other_labels_of_the_same_utterances_are_other_data():
    names = {pipeline.fingerprint(Data(labels=labels)) for labels in pipeline.LABELS}
    assert len(names) == len(pipeline.LABELS)


@pytest.mark.parametrize("labels", pipeline.LABELS)
def test_prepared_data_are_what_was_read(labels):
    """Types included: a label of another type would be another program of each training step."""
    data = Data(train=20, valid=10, test=12, labels=labels)
    expected = synthetic.read(20, 10, 12, 0, labels=labels)
    for _ in range(2):  # prepared, and read again
        for split, batch in pipeline.load(data).items():
            arrays = zip(
                (*batch.features.values(), *batch.valid.values(), batch.label, batch.id),
                (*expected[split].features.values(), *expected[split].valid.values(),
                 expected[split].label, expected[split].id), strict=True)  # fmt: skip
            for got, wanted in arrays:
                np.testing.assert_array_equal(got, wanted)
                assert got.dtype == wanted.dtype
