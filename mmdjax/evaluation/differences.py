"""Differences of a run's systems to the first one, from the predictions that the run kept."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mmdjax.evaluation.significance import Difference, difference, groups_of, holm, pseudo_values
from mmdjax.tasks import Task
from mmdjax.types import known_labels

Predictions = Mapping[str, np.ndarray]  # 'PROTOCOL CONDITION' -> (N, ...), NaN where not measured


class Tested(NamedTuple):
    """A difference to the first system, and its p-value among those of all systems (Holm)."""

    difference: Difference
    p: float


def named(protocol: str, condition: str) -> str:
    """Return the name of a condition's predictions, such as 'fixed l+a'."""
    return f"{protocol} {condition}"


def tested(
    task: Task,
    label: np.ndarray,
    whole: np.ndarray | None,
    predictions: Mapping[str, Mapping[int, Predictions]],
    counted: Mapping[str, Sequence[str]],
    yardsticks: Sequence[str] = (),
) -> dict[tuple[str, str], Tested]:
    """Return (protocol, system) -> how it differs from the first system in the headline metric.

    Args:
      label: (N, ...) of the test split. whole: (N,) the conversation of each utterance, or None.
      predictions: system -> seed -> `Predictions`, the first system first.
      counted: protocol -> the conditions that an average is over.
      yardsticks: systems that no correction counts.
    """
    known = known_labels(label)
    rows = np.flatnonzero(known)
    groups = groups_of(len(rows), None if whole is None else whole[rows])
    found = {}
    for protocol, conditions in counted.items():
        names = [named(protocol, c) for c in conditions]
        values = {
            system: dict(_values(task, label[rows], rows, groups, of_seeds, names))
            for system, of_seeds in predictions.items()
        }
        reference, *others = values
        apart = {}
        for system in others:
            seeds = [s for s in values[system] if s in values[reference]]
            if seeds:
                pairs = [values[system][s] - values[reference][s] for s in seeds]
                apart[system] = difference(np.array(pairs))
        rivals = {s: d.p for s, d in apart.items() if s not in yardsticks}
        corrected = {s: d.p for s, d in apart.items()} | holm(rivals)
        found |= {(protocol, s): Tested(d, corrected[s]) for s, d in apart.items()}
    return found


def _values(
    task: Task,
    label: np.ndarray,
    rows: np.ndarray,
    groups: np.ndarray,
    of_seeds: Mapping[int, Predictions],
    names: Sequence[str],
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield seed -> the headline's pseudo-values (G,), averaged over conditions."""
    for seed, predictions in of_seeds.items():
        if not names or any(name not in predictions for name in names):
            continue
        each = []
        for name in names:
            prediction = predictions[name][rows]
            measured = ~np.isnan(prediction.reshape(len(rows), -1)).any(1)
            score = functools.partial(_score, task, prediction, label, measured)
            each.append(pseudo_values(score, groups))
        mean = np.mean(each, 0)
        if np.isfinite(mean).all():
            yield seed, mean


def _score(task: Task, prediction, label, measured, rows) -> float:
    chosen = measured & rows
    return task.headline_of(prediction[chosen], label[chosen]) if chosen.any() else np.nan
