"""Differences of a run's systems to the first one, from the predictions that the run kept."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mmdjax.evaluation.significance import (
    Difference,
    Rank,
    difference,
    groups_of,
    holm,
    mean_ranks,
    pseudo_values,
)
from mmdjax.tasks import Task
from mmdjax.types import known_labels

Predictions = Mapping[str, np.ndarray]  # 'PROTOCOL CONDITION' -> (N, ...), NaN where not measured
# Protocol -> system -> seed -> pseudo-values (C, G) of conditions and groups of utterances.
Pseudo = Mapping[str, Mapping[str, Mapping[int, np.ndarray]]]


class Tested(NamedTuple):
    """A difference to the first system, and its p-value among those of all systems (Holm)."""

    difference: Difference
    p: float


def named(protocol: str, condition: str) -> str:
    """Return the name of a condition's predictions, such as 'fixed l+a'."""
    return f"{protocol} {condition}"


def pseudo(
    task: Task,
    label: np.ndarray,
    whole: np.ndarray | None,
    predictions: Mapping[str, Mapping[int, Predictions]],
    counted: Mapping[str, Sequence[str]],
) -> Pseudo:
    """Return the headline's pseudo-values, of each system and seed that met every condition.

    Args:
      label: (N, ...) of the test split. whole: (N,) the conversation of each utterance, or None.
      predictions: system -> seed -> `Predictions`, the first system first.
      counted: protocol -> the conditions that an average is over.
    """
    known = known_labels(label)
    rows = np.flatnonzero(known)
    groups = groups_of(len(rows), None if whole is None else whole[rows])
    return {
        protocol: {
            system: dict(
                _values(task, label[rows], rows, groups, of, [named(protocol, c) for c in names])
            )
            for system, of in predictions.items()
        }
        for protocol, names in counted.items()
    }


def tested(found: Pseudo, yardsticks: Sequence[str] = ()) -> dict[tuple[str, str], Tested]:
    """Return (protocol, system) -> how it differs from the first system in the headline metric.

    Args:
      yardsticks: systems that no correction counts.
    """
    result = {}
    for protocol, values in found.items():
        reference, *others = values
        apart = {}
        for system in others:
            seeds = [s for s in values[system] if s in values[reference]]
            if seeds:
                pairs = [(values[system][s] - values[reference][s]).mean(0) for s in seeds]
                apart[system] = difference(np.array(pairs))
        rivals = {s: d.p for s, d in apart.items() if s not in yardsticks}
        corrected = {s: d.p for s, d in apart.items()} | holm(rivals)
        result |= {(protocol, s): Tested(d, corrected[s]) for s, d in apart.items()}
    return result


def ranked(
    found: Pseudo, higher: bool, yardsticks: Sequence[str] = ()
) -> dict[tuple[str, str], Rank]:
    """Return (protocol, system) -> its rank among systems, the best one's 1, averaged over
    conditions.

    Args:
      higher: whether a higher headline is better. yardsticks: systems that have no rank.
    """
    result = {}
    for protocol, values in found.items():
        rivals = {s: of for s, of in values.items() if of and s not in yardsticks}
        seeds = [s for s in next(iter(rivals.values()), ()) if all(s in r for r in rivals.values())]
        if len(rivals) < 2 or not seeds:
            continue
        table = np.array([[of[seed] for seed in seeds] for of in rivals.values()])
        ranks = mean_ranks(table if higher else -table)
        result |= {(protocol, s): rank for s, rank in zip(rivals, ranks, strict=True)}
    return result


def _values(
    task: Task,
    label: np.ndarray,
    rows: np.ndarray,
    groups: np.ndarray,
    of_seeds: Mapping[int, Predictions],
    names: Sequence[str],
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield seed -> the headline's pseudo-values (C, G) under each condition."""
    for seed, predictions in of_seeds.items():
        if not names or any(name not in predictions for name in names):
            continue
        each = []
        for name in names:
            prediction = predictions[name][rows]
            measured = ~np.isnan(prediction.reshape(len(rows), -1)).any(1)
            score = functools.partial(_score, task, prediction, label, measured)
            each.append(pseudo_values(score, groups))
        if np.isfinite(each).all():
            yield seed, np.array(each)


def _score(
    task: Task, prediction: np.ndarray, label: np.ndarray, measured: np.ndarray, rows: np.ndarray
) -> float:
    chosen = measured & rows
    return task.headline_of(prediction[chosen], label[chosen]) if chosen.any() else np.nan
