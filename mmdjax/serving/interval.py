"""Intervals of predictions, by split conformal prediction on the validation split.

A prediction is the mean of K draws' predictions; what is uncertain is the label given what was
drawn, and what was drawn. The score |y - mean| / sqrt(noise + variance over draws) is
calibrated for each availability pattern: with exchangeable utterances an interval at level 1 - a
covers at least that share of labels (Vovk et al. 2005; Papadopoulos et al. 2008 for scores
normalised by a spread). The checkpoint was chosen on the same split, which is slightly optimistic.
"""

from __future__ import annotations

import numpy as np

LEVELS = (0.5, 0.8, 0.9, 0.95)
SMALLEST_NOISE = 1e-6


def calibrate(predictions: np.ndarray, label: np.ndarray, patterns: np.ndarray) -> dict:
    """What `interval` needs.

    Args:
      predictions: (P, N, K). label: (N,). patterns: (P, M), all.

    Returns:
      By pattern, row sum of 2^m over the observed m (row 0 is none): 'noise' (2^M,), variance of
      the label around the mean prediction that draws do not explain; 'spread' (2^M,), mean variance
      over draws; 'scores' (2^M, L) at `LEVELS`.
    """
    mean, variance = predictions.mean(-1), np.zeros(predictions.shape[:-1])
    if predictions.shape[-1] > 1:
        variance = predictions.var(-1, ddof=1)
    error = (label - mean) ** 2
    spread = variance.mean(1)
    noise = np.maximum(error.mean(1) - spread, SMALLEST_NOISE)
    score = np.sqrt(error / (noise[:, None] + variance))
    rows = len(label)
    # The finite-sample quantile; with few rows the largest score is the best there is.
    ranks = [min(rows, int(np.ceil(level * (rows + 1)))) - 1 for level in LEVELS]
    scores = np.sort(score, axis=1)[:, ranks]
    order = np.argsort(patterns @ (1 << np.arange(patterns.shape[1])))

    def by_code(values):
        return np.concatenate([values[:1] * 0, values[order]]).astype(np.float32)

    return {"noise": by_code(noise), "spread": by_code(spread), "scores": by_code(scores)}


def interval(table: dict, predictions, known, level: float):
    """(N,) lower and upper ends; numpy or jax.

    Args:
      table: of `calibrate`. predictions: (N, K). known: (N, M) bool, something of it is observed.
      level: of `LEVELS`.
    """
    row = known @ (1 << np.arange(known.shape[1]))
    variance = table["spread"][row]
    if predictions.shape[1] > 1:
        variance = predictions.var(1, ddof=1)
    half = table["scores"][row, LEVELS.index(level)] * (table["noise"][row] + variance) ** 0.5
    mean = predictions.mean(1)
    return mean - half, mean + half
