"""Measures of what is drawn or filled, against what was hidden."""

from __future__ import annotations

import numpy as np


def energy_distance(drawn: np.ndarray, true: np.ndarray) -> float:
    """Return 2 E|X - Y| - E|X - X'| - E|Y - Y'| (Szekely & Rizzo 2013) over sqrt of the dimensions.

    The unbiased form: no row is paired with itself nor, since row i of both belongs to utterance i,
    with its own counterpart. So it may fall just below 0.

    Args:
      drawn, true: (N, D), paired by row.
    """
    from sklearn.metrics.pairwise import euclidean_distances  # not of a served model

    drawn, true = (np.asarray(a, np.float64) for a in (drawn, true))

    def mean_distance(x: np.ndarray, y: np.ndarray) -> float:
        distance = euclidean_distances(x, y)  # one matrix product
        return (distance.sum() - np.trace(distance)) / (len(x) * (len(x) - 1))

    twice = 2 * mean_distance(drawn, true) - mean_distance(drawn, drawn) - mean_distance(true, true)
    return float(twice / drawn.shape[1] ** 0.5)


def rmse(filled: np.ndarray, true: np.ndarray, mask: np.ndarray) -> float:
    """Return the root mean square error over entries (N, T, D) of valid frames mask (N, T)."""
    return float(np.sqrt(((filled - true)[mask] ** 2).mean()))


def sliced_wasserstein(drawn: np.ndarray, true: np.ndarray, directions: int = 128) -> float:
    """Return the 1-Wasserstein distance of projections, averaged over random directions.

    Bonneel et al. (2015). A sample's distance to another of its own law is above 0.

    Args:
      drawn, true: (N, D).
    """
    axes = np.random.default_rng(0).normal(size=(drawn.shape[1], directions))
    axes /= np.linalg.norm(axes, axis=0)
    ours, theirs = (np.sort(np.asarray(a, np.float64) @ axes, axis=0) for a in (drawn, true))
    return float(np.abs(ours - theirs).mean())


def spread(drawn: np.ndarray, true: np.ndarray) -> float:
    """Return the deviation of draws over that of the truth, both (N, D), pooled over dimensions."""
    ours, theirs = (np.asarray(a, np.float64).var(0).sum() for a in (drawn, true))
    return float(np.sqrt(ours / theirs)) if theirs > 0 else np.nan


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Return the correlation of two samples (N, D), paired by row, pooled over dimensions.

    One draw of each row and the truth correlate as two draws do where draws are of the right law:
    each is the square of what the condition tells.
    """
    first, second = (np.asarray(a, np.float64) - a.mean(0) for a in (first, second))
    size = np.sqrt((first**2).sum() * (second**2).sum())
    return float((first * second).sum() / size) if size > 0 else np.nan


def coverage(draws: np.ndarray, true: np.ndarray, level: float = 0.9) -> np.ndarray:
    """Return how far the truth is inside the central interval of its draws, 0 to 1 an entry.

    Where draws have the law of the truth, its rank r among K of them is uniform on 0 to K, and
    (r + U) / (K + 1), with U uniform, is uniform on 0 to 1: its probability of being in the middle
    `level` of that, on average over entries `level` itself for any law and any K.

    Args:
      draws: (N, K, ...). true: (N, ...).
    """
    return inside(draws.shape[1], level)[(draws < true[:, None]).sum(1)]


def inside(draws: int, level: float) -> np.ndarray:
    """Return (K + 1,) how far a truth of each rank among K draws is inside their central interval.

    See `coverage`.
    """
    count, low, rank = draws + 1, (1 - level) / 2, np.arange(draws + 1)
    within = np.minimum((rank + 1) / count, 1 - low) - np.maximum(rank / count, low)
    return np.maximum(within, 0) * count
