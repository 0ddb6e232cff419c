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

    def mean_distance(x, y):
        distance = euclidean_distances(x, y)  # one matrix product
        return (distance.sum() - np.trace(distance)) / (len(x) * (len(x) - 1))

    twice = 2 * mean_distance(drawn, true) - mean_distance(drawn, drawn) - mean_distance(true, true)
    return float(twice / drawn.shape[1] ** 0.5)


def rmse(filled: np.ndarray, true: np.ndarray, mask: np.ndarray) -> float:
    """Return the root mean square error over entries (N, T, D) of valid frames mask (N, T)."""
    return float(np.sqrt(((filled - true)[mask] ** 2).mean()))
