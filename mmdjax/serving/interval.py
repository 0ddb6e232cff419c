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


def calibrate(predictions: np.ndarray, label: np.ndarray, code: np.ndarray, codes: int) -> dict:
    """What `interval` needs.

    Args:
      predictions: (Q, K). label: (Q,). code: (Q,) pattern, the sum of 2^m over the observed m.
      codes: 2^M.

    Returns:
      By pattern: 'noise' (2^M,), variance of the label around the mean prediction that draws do not
      explain; 'spread' (2^M,), mean variance over draws; 'scores' (2^M, L) at `LEVELS`. All 0 for
      patterns without a row.
    """
    mean, variance = predictions.mean(-1), np.zeros(len(predictions))
    if predictions.shape[-1] > 1:
        variance = predictions.var(-1, ddof=1)
    error = (label - mean) ** 2
    noise, spread = np.zeros(codes), np.zeros(codes)
    for one in np.unique(code):
        spread[one] = variance[code == one].mean()
        noise[one] = max(error[code == one].mean() - spread[one], SMALLEST_NOISE)
    score = np.sqrt(error / (noise[code] + variance))
    found = {"noise": noise, "spread": spread, "scores": _quantiles(score, code, codes)}
    return {name: table.astype(np.float32) for name, table in found.items()}


def _quantiles(score: np.ndarray, code: np.ndarray, codes: int) -> np.ndarray:
    """(2^M, L), the finite-sample quantile of each pattern at `LEVELS`; with few rows the largest
    score is the best there is."""
    table = np.zeros((codes, len(LEVELS)))
    for one in np.unique(code):
        own = np.sort(score[code == one])
        rows = len(own)
        ranks = [min(rows, int(np.ceil(level * (rows + 1)))) - 1 for level in LEVELS]
        table[one] = own[ranks]
    return table


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


def calibrate_classes(
    probabilities: np.ndarray, label: np.ndarray, code: np.ndarray, codes: int
) -> dict:
    """What `class_set` needs, 'scores' (2^M, L) of 1 - the true class's probability (Sadinle et al.
    2019).

    Args:
      probabilities: (Q, K, classes). label: (Q,) numbers of classes. code, codes: see `calibrate`.
    """
    mean = probabilities.mean(1)
    score = 1 - np.take_along_axis(mean, label.astype(int)[:, None], 1)[:, 0]
    return {"scores": _quantiles(score, code, codes).astype(np.float32)}


def class_set(table: dict, probability, known, level: float):
    """(N, classes) bool: the most probable class, and those that the level asks for beside it.

    Args:
      table: of `calibrate_classes`. probability: (N, classes). known, level: see `interval`.
    """
    row = known @ (1 << np.arange(known.shape[1]))
    least = 1 - table["scores"][row, LEVELS.index(level)]
    # A threshold is the probability of some validation row, rounded once more on the way here.
    return (probability >= least[:, None] - 1e-6) | (
        probability >= probability.max(1, keepdims=True)
    )
