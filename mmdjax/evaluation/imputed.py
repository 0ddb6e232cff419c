"""Errors of completions against what was hidden, of a split at once or of its blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mmdjax.data.missing.patterns import pattern_name
from mmdjax.evaluation import fans
from mmdjax.methods.method import Completion, Method
from mmdjax.metrics import (
    correlation,
    energy_distance,
    inside,
    rmse,
    sliced_wasserstein,
    spread,
)

SAMPLE = 1024  # utterances of a split in blocks of which the energy distance is
LEVEL = 0.9  # of the intervals whose coverage tables show


class Pair(NamedTuple):
    """Completions of a modality in some of a block's utterances beside their truth.

    Attributes:
      entries: numbers that are compared. rmse, rmse_mean: see `Imputed.scores`.
      ranks: (K + 1,) entries whose truth is above so many of K draws; None without a second draw.
      first, true: (S, T C), of a sample of utterances.
      second: another draw of them; None where there is one.
    """

    entries: int
    rmse: float
    rmse_mean: float
    ranks: np.ndarray | None
    first: np.ndarray
    true: np.ndarray
    second: np.ndarray | None


class Imputed(NamedTuple):
    """Errors of the completions of missing data under one condition.

    Attributes:
      first, mean: (N, M) mean squares against the truth, of one completion and of the average of K;
        NaN where nothing is missing.
      scores: 'l>a', a completed modality -> metric -> value, of conditions with one pattern; of a
        block of utterances a `Pair`.
      ranks: 'l>a' -> see `Pair`, where there is a second draw.
      fan: see `fans.strand`, of the utterances that the report shows.
    """

    first: np.ndarray
    mean: np.ndarray
    scores: dict[str, dict[str, float] | Pair]
    ranks: dict[str, np.ndarray]
    fan: dict[str, np.ndarray]

    @classmethod
    def of(cls, first: np.ndarray, mean: np.ndarray) -> Imputed:
        """Return errors without scores."""
        return cls(first, mean, {}, {}, {})


def imputed_by(
    method: Method,
    params: Mapping,
    completion: Completion,
    split: str,
    patterns: np.ndarray | None = None,
) -> list[Imputed] | None:
    """Return the errors of completions for each condition; None without a truth.

    What an utterance lacks by nature has no truth, and does not count.
    """
    part = {} if completion.rows is None else {"rows": completion.rows}
    truth = method.truth(params, split, **part)
    masks = completion.observed.modalities
    if truth is None or completion.observed.frames is not None:
        return None
    sampled = None  # of a block the utterances that count in a sample of the split
    if completion.rows is not None:
        sampled = completion.rows % -(-len(method.dataset.splits[split]) // SAMPLE) == 0
    # They stay in memory for each row and condition: of a split in blocks half the bytes will do.
    kind = np.float64 if sampled is None else np.float32
    result = [Imputed.of(*np.full((2, *mask.shape), np.nan, kind)) for mask in masks]
    shown = fans.places(method, split, patterns, completion.rows)
    for m, (true, frames) in enumerate(truth):
        x = None if masks[..., m].all() else method.compared(params, completion, m)
        for q, (pattern, row) in shown.items():
            drawn = None if masks[q, row, m] else x[q, row]
            result[q].fan.update(fans.strand(pattern, m, true, frames, row, drawn))
        if x is None:
            continue
        size = np.maximum(frames.sum(1) * true.shape[-1], 1)
        for q, mask in enumerate(masks):
            rows = ~mask[:, m] & frames.any(1)
            if not rows.any():
                continue
            first, average = x[q, :, 0], x[q].mean(1)
            for squares, filled in ((result[q].first, first), (result[q].mean, average)):
                square = np.where(frames[..., None], (filled - true) ** 2, 0.0).sum((1, 2)) / size
                squares[:, m] = np.where(rows, square, np.nan)
            if patterns is not None:
                observed = pattern_name(patterns[q], method.modalities)
                completed = pattern_name(np.arange(masks.shape[-1]) == m, method.modalities)
                draws, average, target, known = (a[rows] for a in (x[q], average, true, frames))
                some = slice(None) if sampled is None else sampled[rows]
                several = draws.shape[1] > 1
                pair = Pair(
                    int(known.sum()) * true.shape[-1],
                    rmse(draws[:, 0], target, known),
                    rmse(average, target, known),
                    _ranks(draws, target, known) if several else None,
                    *(_flat(a[some], known[some]) for a in (draws[:, 0], target)),
                    _flat(draws[some, 1], known[some]) if several else None,
                )
                name = f"{observed}>{completed}"
                result[q].scores[name] = _scores([pair]) if sampled is None else pair
                if several:
                    result[q].ranks[name] = pair.ranks
    return result


def _scores(pairs: Sequence[Pair]) -> dict[str, float]:
    """Return the scores of all utterances from those of their blocks."""
    first, true = (np.concatenate([getattr(p, name) for p in pairs]) for name in ("first", "true"))
    scores, entries = {}, sum(p.entries for p in pairs)
    if len(first) > 1:  # of a single utterance there is no distribution to compare with
        scores = {
            "energy_distance": energy_distance(first, true),
            "sliced_wasserstein": sliced_wasserstein(first, true),
            "spread": spread(first, true),
            "with_truth": correlation(first, true),
        }
        if pairs[0].second is not None:
            second = np.concatenate([p.second for p in pairs])
            scores["with_draws"] = correlation(first, second)
            scores["coverage"] = covered(sum(p.ranks for p in pairs), LEVEL)
        scores = {name: value for name, value in scores.items() if np.isfinite(value)}
    for name in ("rmse", "rmse_mean"):
        values = [getattr(p, name) for p in pairs]
        squares = sum(v**2 * p.entries for v, p in zip(values, pairs, strict=True))
        # The square of a root is another number.
        scores[name] = values[0] if len(pairs) == 1 else float(np.sqrt(squares / entries))
    return scores


def joined(parts: Sequence[Imputed | None]) -> Imputed | None:
    """Return the errors in all utterances of a split from those in its blocks."""
    if parts[0] is None:
        return None
    first, mean = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("first", "mean")
    )
    pairs: dict[str, list[Pair]] = {}
    ranks: dict[str, np.ndarray] = {}
    fan: dict[str, np.ndarray] = {}
    for part in parts:
        for name, pair in part.scores.items():
            pairs.setdefault(name, []).append(pair)
        ranks |= {name: ranks.get(name, 0) + counts for name, counts in part.ranks.items()}
        fan |= part.fan
    scores = {name: _scores(of_name) for name, of_name in pairs.items()}
    return Imputed(first, mean, scores, ranks, fan)


def covered(counts: np.ndarray, level: float) -> float:
    """Return the share of truths in the central interval of their draws; see `metrics.coverage`.

    Args:
      counts: (K + 1,) truths of each rank.
    """
    return float(counts @ inside(len(counts) - 1, level) / counts.sum())


def _ranks(draws: np.ndarray, true: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return how many numbers of true (N, T, C) lie above 0, ..., K of draws (N, K, T, C)."""
    rank = (draws < true[:, None]).sum(1)[known]
    return np.bincount(rank.ravel(), minlength=draws.shape[1] + 1)


def _flat(x: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Return (N, T C) of (N, T, C), zero outside the frames."""
    return np.where(frames[..., None], x, 0.0).reshape(len(x), -1)
