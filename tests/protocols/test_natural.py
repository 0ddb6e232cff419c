"""Training data made incomplete or partly unlabelled: shares, proportions, and what is nested."""

import dataclasses

import numpy as np
import pytest

from mmdjax.config import Data, Labels
from mmdjax.data import pipeline
from mmdjax.data.missing.natural import incomplete, partly_labelled
from mmdjax.data.missing.patterns import patterns
from mmdjax.data.sources import synthetic
from mmdjax.types import Batch, known_labels

SIZE = 600


@pytest.fixture(scope="module")
def batch():
    return synthetic.read(SIZE, 2, 2, 0)["train"]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 1.0])
def test_a_share_stays_complete_and_the_others_have_each_incomplete_pattern_alike(batch, share):
    made = incomplete(batch, share, 0)
    present = made.present
    assert present.all(1).sum() == round(share * SIZE) and len(made) == SIZE
    lacking = present[~present.all(1)]
    for pattern in patterns(3)[:-1] if share < 1 else ():
        count, mean = (lacking == pattern).all(1).sum(), len(lacking) / 6
        assert abs(count - mean) < 5 * np.sqrt(mean)
    for m, x in made.features.items():
        assert made.valid[m].all(1).tolist() == made.valid[m].any(1).tolist()
        assert not x[~made.valid[m]].any()
        np.testing.assert_array_equal(x[made.valid[m]], batch.features[m][made.valid[m]])
    np.testing.assert_array_equal(made.label, batch.label)
    assert made.id.tolist() == batch.id.tolist()


def test_the_whole_batch_stays_as_it_was(batch):
    before = {m: x.copy() for m, x in batch.features.items()}
    incomplete(batch, 0.1, 0)
    partly_labelled(batch, 0.1, 0)
    assert batch.present.all() and not np.isnan(batch.label).any()
    for m, x in before.items():
        np.testing.assert_array_equal(batch.features[m], x)


def test_a_larger_share_keeps_what_a_smaller_one_has_and_seeds_differ(batch):
    few, many, other = (incomplete(batch, *a).present for a in ((0.1, 0), (0.4, 0), (0.1, 1)))
    assert (many >= few).all() and (many > few).any() and (few != other).any()
    still = ~many.all(1)
    np.testing.assert_array_equal(few[still], many[still])
    known = [known_labels(partly_labelled(batch, *a).label) for a in ((0.1, 0), (0.4, 0), (0.1, 1))]
    assert (known[1] >= known[0]).all() and (known[0] != known[2]).any()


def test_utterances_that_keep_nothing_are_left_out(batch):
    """Of data that lacked something before."""
    valid = batch.valid | {m: np.zeros_like(batch.valid[m]) for m in ("acoustic", "vision")}
    made = incomplete(dataclasses.replace(batch, valid=valid), 0.0, 0)
    assert 0 < len(made) < SIZE and (made.present == [True, False, False]).all()


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9, 1.0])
def test_a_share_of_the_labels_stays(batch, share):
    made = partly_labelled(batch, share, 0)
    known = known_labels(made.label)
    assert known.sum() == round(share * SIZE) and made.label.dtype == np.float32
    np.testing.assert_array_equal(made.label[known], batch.label[known])
    assert made.present.all()


@pytest.mark.parametrize("share", [0.05, 0.3, 0.75])
def test_classes_keep_their_proportions(share):
    counts = np.array([300, 120, 40])
    label = np.random.default_rng(0).permutation(np.repeat(np.arange(3), counts)).astype(np.int32)
    ids = np.arange(len(label)).astype(str)
    made = partly_labelled(Batch({}, {}, label, ids), share, 0, by_class=True).label
    kept = np.bincount(made[~np.isnan(made)].astype(int), minlength=3)
    assert kept.sum() == round(share * counts.sum())
    assert (np.abs(kept - share * counts) <= 1).all()


def test_a_row_without_one_of_its_numbers_counts_as_unlabelled():
    label = np.ones((10, 2), np.float32)
    label[:4, 1] = np.nan
    made = partly_labelled(Batch({}, {}, label, np.arange(10).astype(str)), 0.5, 0).label
    known = known_labels(made)
    assert known.sum() == 3 and not known[:4].any() and np.isnan(made[~known]).any(1).all()


def test_only_training_utterances_of_a_data_set_lose_anything(tmp_path):
    data = Data(train=40, valid=10, test=10, complete=0.25, labelled=0.5)
    made, task = pipeline.dataset(data, Labels(), tmp_path), Labels()
    train = made.splits["train"]
    assert train.present.all(1).sum() == 10 and known_labels(train.label).sum() == 20
    for split in ("valid", "test"):
        assert made.splits[split].present.all() and known_labels(made.splits[split].label).all()
    whole = pipeline.dataset(dataclasses.replace(data, complete=1.0, labelled=1.0), task, tmp_path)
    assert made.content == whole.content  # the file is the same; what is made of it is config
    assert whole.splits["train"].present.all()
