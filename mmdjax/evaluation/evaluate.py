"""Any method on the test split under every condition, for one seed.

Systems whose completions agree are completed once: predictions of K draws, of one draw, and of
another classifier are read from the same draws.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from mmdjax.data.missing.patterns import pattern_name
from mmdjax.evaluation.conditions import Condition
from mmdjax.methods.method import Completion, Method
from mmdjax.metrics import energy_distance, rmse
from mmdjax.training.streams import stream
from mmdjax.types import Observed

SETS = 8192  # completed utterances in memory at once


class Member(NamedTuple):
    """A trained system: its name in tables, its method, parameters by phase, and K."""

    name: str
    method: Method
    params: dict[str, Any]
    draws: int


class Answer(NamedTuple):
    """What a system says under one condition.

    Attributes:
      prediction: (N, ...), the average over its draws.
      first, mean: (N, M) mean squares of what is missing against the truth, of one completion and
        of the average of K; None for a method without a truth. NaN where nothing is missing.
      rows: of the protocol 'imputation'.
      nfe: evaluations a drawn item.
    """

    prediction: np.ndarray
    first: np.ndarray | None
    mean: np.ndarray | None
    rows: list[dict]
    nfe: int


def evaluate(
    members: Sequence[Member],
    conditions: Sequence[Condition],
    seed: int,
    split: str = "test",
) -> dict[str, list[dict]]:
    """Return rows of `results.json` by the system's name, regrets not yet among them.

    Args:
      members: systems that agree in `Method.completes`.
      conditions: of `conditions_of`.
      seed: of training and of the masks.
    """
    started, method = time.monotonic(), members[0].method
    dataset, task = method.dataset, method.task
    label = dataset.splits[split].label
    rows: dict[str, list[dict]] = {member.name: [] for member in members}
    able = [c for c in conditions if c.observed.frames is None or method.gaps]
    if method.sees == "utterances":
        # A draw depends on its utterance, pattern and key alone, so the random protocol needs none
        # of its own: each utterance's answer is that of the pattern its mask names.
        answers = _by_pattern(members, able, seed, split)
    else:
        answers = _one_by_one(members, able, seed, split)
    for condition, by_member in answers:
        for member, answer in zip(members, by_member, strict=True):
            own = rows[member.name]
            where = {"protocol": condition.protocol, "condition": condition.name, "seed": seed}
            scores = task.metrics(answer.prediction, label)
            known = answer.first is not None and np.isfinite(answer.first).any()
            if condition.protocol == "random" and known:
                # Every missing item, an utterance's modality, counts alike.
                scores |= {"rmse": float(np.sqrt(np.nanmean(answer.first)))}
                scores |= {"rmse_mean": float(np.sqrt(np.nanmean(answer.mean)))}
            own += [_row(member, metric=m, value=v, **where) for m, v in scores.items()]
            own += answer.rows
            if answer.nfe and condition.protocol == "fixed":
                place = where | {"protocol": "cost"}
                own.append(_row(member, metric="nfe", value=answer.nfe, **place))
    seconds = time.monotonic() - started
    for member in members:
        place = {"protocol": "cost", "condition": "evaluation", "seed": seed}
        rows[member.name].append(_row(member, metric="seconds", value=seconds, **place))
    return rows


def _row(member: Member, protocol, condition, seed, metric, value) -> dict:
    return {
        "system": member.name,
        "method": member.method.name,
        "protocol": protocol,
        "condition": condition,
        "seed": seed,
        "metric": metric,
        "value": float(value),
    }


def _by_pattern(members, conditions, seed: int, split: str):
    """Answers of methods that see utterances: every pattern once, then looked up."""
    method, draws = members[0].method, max(m.draws for m in members)
    patterns = method.dataset.patterns
    rows, columns = len(method.dataset.splits[split]), np.arange(len(method.dataset.splits[split]))
    of_pattern: list[list[Answer]] = []
    by_modality = any(c.observed.frames is None for c in conditions)
    for group in in_groups(patterns, rows * draws) if by_modality else ():
        # With nothing missing every draw is the utterance itself.
        count = 1 if group.all() else draws
        observed = Observed.of_patterns(group, rows)
        of_pattern += _answers(members, observed, count, "fixed", seed, split)
    code = 1 << np.arange(patterns.shape[1])
    place = {int(p @ code): index for index, p in enumerate(patterns)}
    for condition in conditions:
        if condition.observed.frames is not None:
            observed = condition.observed
            yield condition, _answers(members, observed, draws, condition.name, seed, split)[0]
            continue
        index = np.array([place[int(m @ code)] for m in condition.observed.modalities[0]])
        if condition.protocol == "fixed":
            yield condition, of_pattern[index[0]]
            continue
        looked_up = []
        for number in range(len(members)):
            own = [answers[number] for answers in of_pattern]

            def gather(field, own=own, index=index):
                parts = [getattr(answer, field) for answer in own]
                return None if parts[0] is None else np.stack(parts)[index, columns]

            looked_up.append(Answer(gather("prediction"), gather("first"), gather("mean"), [], 0))
        yield condition, looked_up


def _one_by_one(members, conditions, seed: int, split: str):
    """Answers of methods that see conversations: what neighbours show counts, too."""
    draws = max(m.draws for m in members)
    for condition in conditions:
        count = 1 if condition.observed.everything else draws
        name = f"{condition.protocol} {condition.name}"
        yield condition, _answers(members, condition.observed, count, name, seed, split)[0]


def _answers(
    members, observed: Observed, draws: int, name: str, seed: int, split: str
) -> list[list[Answer]]:
    """For each condition of `observed`, the answer of every member."""
    method, params = members[0].method, members[0].params
    key = jax.random.fold_in(jax.random.key(seed), stream("test"))
    if observed.frames is not None:
        # The frames that remain are a condition of their own: so is their noise.
        key = jax.random.fold_in(key, stream(name))
    title = f"seed {seed}: {method.label}, {len(observed.modalities)} conditions ({name})"
    completion = method.complete(params, split, observed, draws, key, title)
    imputed = {}  # by the number of draws that are averaged
    result = [[] for _ in observed.modalities]
    for member in members:
        own = completion.first(member.draws)
        if member.draws not in imputed:
            imputed[member.draws] = _imputed(method, params, own, split)
        shared = imputed[member.draws]
        prediction = np.asarray(member.method.predict(member.params, split, own)).mean(2)
        for index, answers in enumerate(result):
            first, mean, rows = None, None, []
            if shared is not None and observed.frames is None:
                first, mean = shared[0][index], shared[1][index]
                rows = [
                    _row(member, "imputation", f"{c}", seed, metric, value)
                    for c, metric, value in shared[2][index]
                ]
            answers.append(Answer(prediction[index], first, mean, rows, completion.nfe))
    return result


def _imputed(method: Method, params, completion: Completion, split: str):
    """How well what is missing was completed.

    Returns:
      (Q, N, M) mean squares of the first completion and of the average, NaN where nothing is
      missing; and for each condition with one pattern (name 'l>a', metric, value). None for a
      method without a truth.
    """
    truth = method.truth(params, split)
    masks = completion.observed.modalities
    if truth is None or completion.observed.frames is not None:
        return None
    first, mean = np.full(masks.shape, np.nan), np.full(masks.shape, np.nan)
    lines: list[list[tuple]] = [[] for _ in masks]
    for m, (true, frames) in enumerate(truth):
        if masks[..., m].all():
            continue
        x = method.compared(params, completion, m)
        size = np.maximum(frames.sum(1) * true.shape[-1], 1)
        for q, mask in enumerate(masks):
            if mask[:, m].all():
                continue
            one, average = x[q, :, 0], x[q].mean(1)
            for target, filled in ((first, one), (mean, average)):
                square = np.where(frames[..., None], (filled - true) ** 2, 0.0).sum((1, 2)) / size
                target[q, :, m] = np.where(mask[:, m], np.nan, square)
            if (mask == mask[0]).all():
                given = pattern_name(mask[0], method.modalities)
                alone = pattern_name(np.arange(masks.shape[-1]) == m, method.modalities)
                values = {
                    "energy_distance": energy_distance(_flat(one, frames), _flat(true, frames)),
                    "rmse": rmse(one, true, frames),
                    "rmse_mean": rmse(average, true, frames),
                }
                lines[q] += [(f"{given}>{alone}", k, v) for k, v in values.items()]
    return first, mean, lines


def _flat(x: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """(N, T C), zero off the frames."""
    return np.where(frames[..., None], x, 0.0).reshape(len(x), -1)


def in_groups(patterns: np.ndarray, sets: int) -> list[np.ndarray]:
    """Return the patterns in groups that are completed at once, the complete one alone.

    Batches are then filled with rows of several patterns, and memory stays bounded.

    Args:
      patterns: (P, M), the complete one last. sets: completed sets of one pattern.
    """
    incomplete, size = patterns[:-1], max(1, SETS // sets)
    groups = [incomplete[i : i + size] for i in range(0, len(incomplete), size)]
    return [*groups, patterns[-1:]]


def with_regrets(rows: Sequence[dict], task) -> list[dict]:
    """Return rows with every system's distance to the Bayes optimum, where there is one.

    Args:
      rows: of all systems. task: whose `regrets` they are.
    """
    scores: dict[tuple, dict[str, float]] = {}
    for r in rows:
        if r["protocol"] in ("fixed", "random", "gaps") and r["method"] != "protocol":
            key = (r["system"], r["method"], r["protocol"], r["condition"], r["seed"])
            scores.setdefault(key, {})[r["metric"]] = r["value"]
    best = {key[2:]: values for key, values in scores.items() if key[1] == "bayes"}
    fields = ("system", "method", "protocol", "condition", "seed")
    result = list(rows)
    for key, values in scores.items():
        if key[2:] in best:
            for metric, value in task.regrets(values, best[key[2:]]).items():
                result.append(
                    dict(zip(fields, key, strict=True)) | {"metric": metric, "value": float(value)}
                )
    return result
