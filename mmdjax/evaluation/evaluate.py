"""Evaluates any method on the test split under every condition, for one seed.

Systems whose completions agree are completed once: predictions of K draws, of one draw, and of
another classifier are read from the same draws.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from mmdjax.data.missing.patterns import pattern_name
from mmdjax.data.stored import blocks, is_stored
from mmdjax.evaluation.conditions import Condition
from mmdjax.evaluation.differences import named
from mmdjax.evaluation.imputed import Imputed, covered, imputed_by, joined
from mmdjax.methods.method import Method
from mmdjax.tasks import Task
from mmdjax.training.streams import stream
from mmdjax.types import Batch, Observed, known_labels

SETS = 8192  # completed utterances in memory at once
LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # of intervals whose coverage is measured


class Member(NamedTuple):
    """A trained system: its name in tables, its method, parameters by phase, and K."""

    name: str
    method: Method
    params: dict[str, Any]
    draws: int


class Answer(NamedTuple):
    """The answer of a system under one condition.

    Attributes:
      prediction: (N, ...), the average over its draws.
      imputed: None for a method without a truth, and where frames are missing.
      nfe: evaluations a drawn item.
    """

    prediction: np.ndarray
    imputed: Imputed | None
    nfe: int


def evaluate(
    members: Sequence[Member],
    conditions: Sequence[Condition],
    seed: int,
    split: str = "test",
    predictions: dict[str, dict[str, np.ndarray]] | None = None,
    fans: dict[str, dict[str, np.ndarray]] | None = None,
) -> dict[str, list[dict]]:
    """Return rows of `results.json` by the system's name, regrets not yet among them.

    Args:
      members: systems that agree in `Method.completes`.
      conditions: of `conditions_of`.
      seed: of training and of the masks.
      predictions: filled with system -> 'PROTOCOL CONDITION' -> predictions (N, ...) float32, NaN
        where an utterance does not count.
      fans: filled with system -> what `fans.picture` shows.
    """
    started, method = time.monotonic(), members[0].method
    label = method.dataset.splits[split].label
    labelled = known_labels(label)
    rows: dict[str, list[dict]] = {member.name: [] for member in members}
    ranks: dict[str, list[np.ndarray]] = {member.name: [] for member in members}

    def add(member: Member, protocol: str, condition: str, scores: Mapping[str, float]) -> None:
        place = {"system": member.name, "method": member.method.name, "protocol": protocol}
        place |= {"condition": condition, "seed": seed}
        rows[member.name] += [place | {"metric": m, "value": float(v)} for m, v in scores.items()]

    able = [c for c in conditions if c.observed.frames is None or method.gaps]
    # A draw depends on its utterance, pattern and key alone, so the random protocol needs none of
    # its own: each utterance's answer is that of the pattern its mask names. Of conversations, what
    # neighbours show counts, too.
    answered = _by_pattern if method.sees == "utterances" else _one_by_one
    for condition, answers in answered(members, able, seed, split):
        for member, answer in zip(members, answers, strict=True):
            measured, imputed, scores = condition.counted & labelled, answer.imputed, {}
            if predictions is not None:
                given = np.array(answer.prediction, np.float32)
                given[~condition.counted] = np.nan
                of_system = predictions.setdefault(member.name, {})
                of_system[named(condition.protocol, condition.name)] = given
            if measured.any():
                scores = method.task.metrics(answer.prediction[measured], label[measured])
            if condition.protocol == "random" and imputed and np.isfinite(imputed.first).any():
                # Every missing item, an utterance's modality, counts alike.
                scores["rmse"] = np.sqrt(np.nanmean(imputed.first))
                scores["rmse_mean"] = np.sqrt(np.nanmean(imputed.mean))
            add(member, condition.protocol, condition.name, scores)
            for name, of_modality in imputed.scores.items() if imputed else ():
                add(member, "imputation", name, of_modality)
            if imputed and imputed.fan and fans is not None:
                fans.setdefault(member.name, {}).update(imputed.fan)
            ranks[member.name] += imputed.ranks.values() if imputed else ()
            if answer.nfe and condition.protocol == "fixed":
                add(member, "cost", condition.name, {"nfe": answer.nfe})
    seconds = time.monotonic() - started
    for member in members:
        add(member, "cost", "evaluation", {"seconds": seconds})
        for level in LEVELS if ranks[member.name] else ():
            shares = [covered(counts, level) for counts in ranks[member.name]]
            add(member, "calibration", f"{level:g}", {"coverage": np.mean(shares)})
    return rows


def _by_pattern(
    members: Sequence[Member], conditions: Sequence[Condition], seed: int, split: str
) -> Iterator[tuple[Condition, list[Answer]]]:
    """Yield answers of methods that see utterances: every pattern once, then looked up."""
    method, draws = members[0].method, max(m.draws for m in members)
    patterns, batch = method.dataset.patterns, method.dataset.splits[split]
    answers: list[list[Answer]] = []  # of each pattern
    if any(c.observed.frames is None for c in conditions):
        of_rows = functools.partial(_of_patterns, members, seed, split)
        answers = _block_by_block(method, batch, of_rows) if is_stored(batch) else of_rows()
    code = 1 << np.arange(patterns.shape[1])
    place = np.zeros(2 ** len(code), int)
    place[patterns @ code] = np.arange(len(patterns))
    named = {pattern_name(p, method.modalities): index for index, p in enumerate(patterns)}
    for condition in conditions:
        if condition.observed.frames is not None:
            observed = condition.observed
            yield condition, _answers(members, observed, draws, condition.name, seed, split)[0]
            continue
        if condition.protocol == "fixed":
            yield condition, answers[named[condition.name]]
        else:
            index = place[condition.observed.modalities[0] @ code]
            yield condition, [_looked_up(own, index) for own in zip(*answers, strict=True)]


def _of_patterns(
    members: Sequence[Member], seed: int, split: str, rows: np.ndarray | None = None
) -> list[list[Answer]]:
    """Return the answers of members under every pattern, of all utterances or of some rows."""
    dataset, draws, answers = members[0].method.dataset, max(m.draws for m in members), []
    present = dataset.splits[split].present
    present = present if rows is None else present[rows]
    for group in in_groups(dataset.patterns, len(present) * draws):
        observed = Observed.of_patterns(group, present)
        # With nothing missing every draw is the utterance itself.
        count = 1 if observed.everything else draws
        answers += _answers(members, observed, count, "fixed", seed, split, group, rows)
    return answers


def _block_by_block(method: Method, batch: Batch, of_rows: Callable) -> list[list[Answer]]:
    """Return what `of_rows` does of all utterances; completions of a block are in memory."""
    parts, total = [], list(blocks(len(batch), method.config.evaluation.batch))
    with method.reporter.phase(f"{method.label}, {len(batch)} utterances", len(total)) as progress:
        for block in total:
            parts.append(of_rows(rows=np.arange(block.start, block.stop)))
            progress.advance()
    errors: dict[tuple[int, ...], Imputed | None] = {}  # members of equal K share them

    def of_all(answers: Sequence[Answer]) -> Answer:
        imputed = [answer.imputed for answer in answers]
        key = tuple(map(id, imputed))
        if key not in errors:
            errors[key] = joined(imputed)
        predictions = np.concatenate([answer.prediction for answer in answers])
        return Answer(predictions, errors[key], max(answer.nfe for answer in answers))

    by_pattern = zip(*parts, strict=True)
    return [[of_all(blocks) for blocks in zip(*each, strict=True)] for each in by_pattern]


def _looked_up(answers: Sequence[Answer], index: np.ndarray) -> Answer:
    """Return the answer where utterance n has the pattern index[n]; answers: of each pattern."""

    def gather(arrays: Sequence[np.ndarray]) -> np.ndarray:
        found = np.empty_like(arrays[0])
        for pattern, values in enumerate(arrays):
            found[index == pattern] = values[index == pattern]
        return found

    imputed = None
    if answers[0].imputed is not None:
        first, mean = (gather([getattr(a.imputed, f) for a in answers]) for f in ("first", "mean"))
        imputed = Imputed.of(first, mean)
    return Answer(gather([answer.prediction for answer in answers]), imputed, 0)


def _one_by_one(
    members: Sequence[Member], conditions: Sequence[Condition], seed: int, split: str
) -> Iterator[tuple[Condition, list[Answer]]]:
    """Yield answers of methods that see conversations."""
    draws = max(m.draws for m in members)
    dataset = members[0].method.dataset
    named = {pattern_name(p, dataset.modalities): p[None] for p in dataset.patterns}
    for condition in conditions:
        if not condition.counted.all() and condition.observed.frames is None:
            # Neighbours see nothing of an utterance that has nothing of what a pattern shows.
            shown = condition.observed.modalities & condition.counted[None, :, None]
            condition = condition._replace(observed=Observed(shown))
        count = 1 if condition.observed.everything else draws
        name = f"{condition.protocol} {condition.name}"
        pattern = named[condition.name] if condition.protocol == "fixed" else None
        yield condition, _answers(members, condition.observed, count, name, seed, split, pattern)[0]


def _answers(
    members: Sequence[Member],
    observed: Observed,
    draws: int,
    name: str,
    seed: int,
    split: str,
    patterns: np.ndarray | None = None,
    rows: np.ndarray | None = None,
) -> list[list[Answer]]:
    """Return the answer of every member for each condition of `observed`.

    Args:
      patterns: (Q, M) bool, where each condition is an availability pattern.
      rows: the utterances of the split that `observed` is about, where those are not all.
    """
    method, params = members[0].method, members[0].params
    key = jax.random.fold_in(jax.random.key(seed), stream("test"))
    if observed.frames is not None:
        # The frames that remain are a condition of their own: so is their noise.
        key = jax.random.fold_in(key, stream(name))
    title = f"seed {seed}: {method.label}, {len(observed.modalities)} conditions ({name})"
    part, title = ({}, title) if rows is None else ({"rows": rows}, "")
    completion = method.complete(params, split, observed, draws, key, title, **part)
    imputed = {}  # by the number of draws that are averaged
    result: list[list[Answer]] = [[] for _ in observed.modalities]
    for member in members:
        averaged = completion.first(member.draws)
        if member.draws not in imputed:
            imputed[member.draws] = imputed_by(method, params, averaged, split, patterns)
        prediction = np.asarray(member.method.predict(member.params, split, averaged)).mean(2)
        for index, answers in enumerate(result):
            scores = imputed[member.draws] and imputed[member.draws][index]
            answers.append(Answer(prediction[index], scores, completion.nfe))
    return result


def in_groups(patterns: np.ndarray, sets: int) -> list[np.ndarray]:
    """Return the patterns in groups that are completed at once, the complete one alone.

    Batches are then filled with rows of several patterns, and memory stays bounded.

    Args:
      patterns: (P, M), the complete one last. sets: completed sets of one pattern.
    """
    incomplete, size = patterns[:-1], max(1, SETS // sets)
    groups = [incomplete[i : i + size] for i in range(0, len(incomplete), size)]
    return [*groups, patterns[-1:]]


def with_regrets(rows: Sequence[dict], task: Task) -> list[dict]:
    """Return rows with every system's distance to the Bayes optimum, where there is one.

    Args:
      rows: of all systems. task: whose `regrets` they are.
    """
    fields = ("system", "method", "protocol", "condition", "seed")
    scores: dict[tuple, dict[str, float]] = {}
    for r in rows:
        if r["protocol"] in ("fixed", "random", "gaps") and r["method"] != "protocol":
            scores.setdefault(tuple(r[f] for f in fields), {})[r["metric"]] = r["value"]
    best = {key[2:]: values for key, values in scores.items() if key[1] == "bayes"}
    result = list(rows)
    for key, values in scores.items():
        if key[2:] in best:
            place = dict(zip(fields, key, strict=True))
            regrets = task.regrets(values, best[key[2:]])
            result += [place | {"metric": m, "value": float(v)} for m, v in regrets.items()]
    return result
