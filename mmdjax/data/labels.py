"""What the labels of a data set are: the numbers that count, and their task."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from mmdjax import tasks
from mmdjax.data.formats.values import by_rows
from mmdjax.data.settings import Labels
from mmdjax.errors import require
from mmdjax.runtime.progress import Reporter
from mmdjax.types import Batch, known_labels


def with_task(
    place: str, splits: Mapping[str, Batch], labels: Labels, known: tasks.Task | None = None
) -> tuple[dict[str, Batch], tasks.Task]:
    """Return the splits with the labels of a task, and the task of `mmdjax.tasks` that the settings
    name, or that the labels tell.

    Args:
      place: the beginning of messages, such as 'mine.npz: '.
      labels: `mmdjax.data.settings.Labels`.
      known: the task of labels that a source makes itself.

    Raises:
      UserError: labels of a split that do not fit it, or too few of them.
    """
    task = known
    if task is None:
        count = by_rows(splits["train"].label).shape[1]
        splits = {
            name: dataclasses.replace(batch, label=chosen(place, batch.label, labels))
            for name, batch in splits.items()
        }
        if count > 1 and splits["train"].label.ndim == 1 and not labels.columns:
            Reporter().print(f"{place}labels of {count} numbers: the first counts")
        # The range of all splits: a test label outside the training labels' is no mistake.
        label = np.concatenate([batch.label for batch in splits.values()])
        low, high = (labels.low, labels.high) if labels.low < labels.high else (None, None)
        classes = splits["train"].classes
        kind = labels.kind or ("classification" if classes else "")
        words = f"{place}labels are words, {', '.join(classes[:5])}"
        require(not classes or kind == "classification", words, f"numbers for {kind}")
        names = labels.names or classes
        task = tasks.make(kind, low, high, names, labels.metrics, label)
    for split, batch in splits.items():
        task.check(batch.label, f"{place}split {split!r}", batch.id)
        _check_labels(f"{place}split {split!r}", task, batch.label, splits["train"].label)
    return splits, task


def chosen(place: str, label: np.ndarray, labels: Labels) -> np.ndarray:
    """Return the numbers of labels (N,) or (N, numbers) that the settings ask for.

    Args:
      place: the beginning of messages. labels: `mmdjax.data.settings.Labels`.

    Raises:
      UserError: columns that the labels do not have.
    """
    many = len(labels.columns) > 1
    several = labels.kind == "multi_label" or (
        (labels.kind == "regression" and (labels.names or many)) or (not labels.kind and many)
    )
    if label.ndim > 1 and (labels.columns or not several):
        columns = labels.columns or (0,)
        problem = f"{place}config.task.columns = {labels.columns}"
        require(max(columns) < label.shape[1], problem, f"numbers from 0 to {label.shape[1] - 1}")
        label = label[:, columns]
        label = label if several else label[:, 0]
    if labels.kind == "classification" and label.dtype.kind == "i" and (label == -1).any():
        label = np.where(label == -1, np.nan, label).astype(np.float32)  # as scikit-learn marks it
    if labels.kind == "multi_label" and labels.strengths:
        label = np.where(np.isnan(label), np.nan, label > 0).astype(np.float32)
    return label


def _check_labels(where: str, task: tasks.Task, label: np.ndarray, train: np.ndarray) -> None:
    """Raise `UserError` where a split's labels cannot be learned from, or measured with."""
    known = known_labels(label)
    count = f"{known.sum()} of {len(label)} utterances have a label"
    require(known.sum() >= 2, f"{where}: {count}", "at least two")
    label = label[known]
    differ = (label != label[0]).any() or np.any(label[0] != 0)
    require(differ, f"{where}: all labels are 0", "at least two different ones")
    if task.kind != "classification":
        return
    counts, learned = (
        np.bincount(a.astype(int), minlength=task.outputs)
        for a in (label, train[known_labels(train)])
    )
    for problem, wrong in (
        ("classes that training lacks", (counts > 0) & (learned == 0)),
        ("classes of which training has a single utterance", learned == 1),
    ):
        listed = ", ".join(f"{task.names[i]} ({counts[i]} here)" for i in np.flatnonzero(wrong))
        allowed = "at least two training utterances of each class; merge rare ones or drop them"
        require(not wrong.any(), f"{where}: {problem}: {listed}", allowed)
