"""Labels of a user's file become those of a task: ranges, classes, columns."""

import numpy as np
import pytest

from mmdjax.config import Data, Labels
from mmdjax.data import pipeline
from mmdjax.data.sources import from_file
from mmdjax.errors import UserError
from mmdjax.serving.fit import _labels

from .layout_files import KEYS, tree


def prepared(path, tmp_path, **labels):
    """The data set of a file, with settings of its labels."""
    data = Data(name="file", path=path, modalities=tuple(f"{k}:{m}" for k, m in KEYS.items()))
    return pipeline.dataset(data, Labels(**labels), tmp_path / "cache")


def test_labels_of_any_range_are_read_and_their_range_is_the_task_s(write, tmp_path):
    """A reader takes every number; what is allowed is the task's to say."""
    content = tree()
    for part in content.values():
        part["regression_labels"] = part["regression_labels"] * 10 + 40  # from 10 to 70
    path = write(content)
    found = from_file.read(path, KEYS)["test"].label
    np.testing.assert_allclose(found, content["test"]["regression_labels"], rtol=1e-6)
    task = prepared(path, tmp_path).task
    assert (task.low, task.high) == (10, 70)
    assert prepared(path, tmp_path, low=0.0, high=100.0).task.high == 100
    with pytest.raises(UserError, match=r"split 'train'.*allowed: .*-3.*3") as error:
        prepared(path, tmp_path, kind="regression", low=-3.0, high=3.0)
    assert "\n" not in str(error.value)


def test_labels_that_a_file_gives_as_classes_are_classes_where_asked(write, tmp_path):
    content = tree()
    for part in content.values():
        part["regression_labels"] = np.arange(len(part["id"])) % 4
    path = write(content)
    assert prepared(path, tmp_path, kind="classification").task.names == ("0", "1", "2", "3")
    named = prepared(path, tmp_path, kind="classification", names=("w", "x", "y", "z"))
    assert named.task.names == ("w", "x", "y", "z")
    with pytest.raises(UserError, match="split 'train'"):
        prepared(path, tmp_path, kind="classification", names=("w", "x"))
    with pytest.raises(UserError, match="split 'train'"):
        prepared(write(tree()), tmp_path, kind="classification", names=("w", "x"))


def test_of_several_labels_the_first_counts_or_those_that_are_asked_for(write, tmp_path):
    content = tree()
    first = content["test"]["regression_labels"]
    for part in content.values():
        label = part["regression_labels"]
        part["regression_labels"] = np.stack([label, label / 2 + 1, label * 0], 1)
    path = write(content)

    def found(**labels):
        return prepared(path, tmp_path, **labels).splits["test"].label

    np.testing.assert_allclose(found(), first, rtol=1e-6)
    np.testing.assert_allclose(found(columns=(1,)), first / 2 + 1, rtol=1e-6)
    several = found(kind="regression", names=("a", "b"), columns=(1, 0))
    np.testing.assert_allclose(several, np.stack([first / 2 + 1, first], 1), rtol=1e-6)
    with pytest.raises(UserError, match=r"task.columns = \(0, 3\); allowed: numbers from 0 to 2"):
        found(columns=(0, 3))


def test_labels_in_memory_are_chosen_as_those_of_a_file(rng):
    label = rng.uniform(-1, 3, (20, 3)).astype(np.float32)
    found, task = _labels(label, Labels(columns=(2,)))
    np.testing.assert_array_equal(found, label[:, 2])
    assert task.outputs == 1
    found, task = _labels(label, Labels(columns=(0, 2)))
    np.testing.assert_array_equal(found, label[:, [0, 2]])
    assert task.outputs == 2
    found, task = _labels(label, Labels(kind="multi_label", columns=(0, 1), strengths=True))
    np.testing.assert_array_equal(found, label[:, :2] > 0)
    with pytest.raises(UserError, match=r"labels: config.task.columns = \(5,\).*from 0 to 2"):
        _labels(label, Labels(columns=(5,)))
