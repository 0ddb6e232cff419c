"""Sets and intervals that cover their share of labels are calibrated here on the validation split.

Split conformal prediction. A prediction is the mean of K draws' predictions; what is uncertain is
the label given what was drawn, and what was drawn. Scores are calibrated for each availability
pattern: with exchangeable utterances an interval or set at level 1 - a covers at least that share
of labels (Vovk et al. 2005). Numbers are scored by |y - mean| / sqrt(noise + variance over draws)
(Papadopoulos et al. 2008), classes and labels by 1 - the probability of what is true (Sadinle et
al. 2019). Several outputs are calibrated one by one: each covers its own share, not all of them
together. The checkpoint was chosen on the same split, which is slightly optimistic.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

LEVELS = (0.5, 0.8, 0.9, 0.95)
SMALLEST_NOISE = 1e-6
# A threshold is the probability of some validation row, rounded once more on its way to a device.
ROUNDING = 1e-6


def calibrate(
    predictions: np.ndarray,
    label: np.ndarray,
    code: np.ndarray,
    codes: int,
    smallest: float = SMALLEST_NOISE,
) -> dict:
    """Makes the tables that `interval` needs.

    Args:
      predictions: (Q, K, ...), with a last axis for several outputs.
      label: (Q, ...).
      code: (Q,) pattern, the sum of 2^m over the observed m.
      codes: 2^M.
      smallest: the least variance of noise.

    Returns:
      By pattern: 'noise' (2^M, ...), variance of the label around the mean prediction that draws do
      not explain; 'spread' (2^M, ...), mean variance over draws; 'scores' (2^M, L, ...) at
      `LEVELS`. float32; all 0 for patterns without a row.
    """
    mean, variance = predictions.mean(1), np.zeros(label.shape)
    if predictions.shape[1] > 1:
        variance = predictions.var(1, ddof=1)
    error = (label - mean) ** 2
    noise, spread = np.zeros((2, codes, *label.shape[1:]))
    for one in np.unique(code):
        spread[one] = variance[code == one].mean(0)
        noise[one] = np.maximum(error[code == one].mean(0) - spread[one], smallest)
    score = np.sqrt(error / (noise[code] + variance))
    found = {"noise": noise, "spread": spread, "scores": _quantiles(score, code, codes)}
    return {name: table.astype(np.float32) for name, table in found.items()}


def _quantiles(score: np.ndarray, code: np.ndarray, codes: int) -> np.ndarray:
    """The finite-sample quantile of each pattern at `LEVELS`, (2^M, L, ...), of scores (Q, ...);
    with few rows the largest score is the best there is."""
    table = np.zeros((codes, len(LEVELS), *score.shape[1:]))
    for one in np.unique(code):
        own = np.sort(score[code == one], axis=0)
        rows = len(own)
        ranks = [min(rows, int(np.ceil(level * (rows + 1)))) - 1 for level in LEVELS]
        table[one] = own[ranks]
    return table


def interval(table: dict, predictions, known, level: float):
    """Returns the lower and upper ends of intervals, (N, ...) each; numpy or jax.

    Args:
      table: of `calibrate`.
      predictions: (N, K, ...).
      known: (N, M) bool, something of it is observed.
      level: of `LEVELS`.
    """
    row = _row(known)
    if predictions.shape[1] > 1:
        variance = predictions.var(1, ddof=1)
    else:
        variance = _rows(table, "spread", row)
    scale = (_rows(table, "noise", row) + variance) ** 0.5
    half = _rows(table, "scores", row, level) * scale
    mean = predictions.mean(1)
    return mean - half, mean + half


def calibrate_classes(
    probabilities: np.ndarray, label: np.ndarray, code: np.ndarray, codes: int
) -> dict:
    """Makes the table that `class_set` needs: 'scores' (2^M, L) of 1 - the probability of the true
    class.

    Args:
      probabilities: (Q, K, classes).
      label: (Q,) numbers of classes.
      code, codes: see `calibrate`.
    """
    mean = probabilities.mean(1)
    score = 1 - np.take_along_axis(mean, label.astype(int)[:, None], 1)[:, 0]
    return {"scores": _quantiles(score, code, codes).astype(np.float32)}


def class_set(table: dict, probability, known, level: float):
    """Returns (N, classes) bool: the most probable class, and those that the level asks for beside
    it; numpy or jax.

    Args:
      table: of `calibrate_classes`.
      probability: (N, classes).
      known, level: see `interval`.
    """
    least = 1 - _rows(table, "scores", _row(known), level)
    return (probability >= least[:, None] - ROUNDING) | (
        probability >= probability.max(1, keepdims=True)
    )


def calibrate_labels(
    probabilities: np.ndarray, label: np.ndarray, code: np.ndarray, codes: int
) -> dict:
    """Makes the table that `label_bounds` needs: 'scores' (2^M, L, outputs) of 1 - the probability
    of each label's true value.

    Args:
      probabilities: (Q, K, outputs).
      label: (Q, outputs) of 0 and 1.
      code, codes: see `calibrate`.
    """
    score = np.abs(label - probabilities.mean(1))
    return {"scores": _quantiles(score, code, codes).astype(np.float32)}


def label_bounds(table: dict, probability, known, level: float):
    """Returns the lowest and highest value of each label's set, (N, outputs) of 0 and 1 each.

    The set of a label holds its more probable value, and the other where the level asks for it:
    ends (0, 0) mean absent, (1, 1) present, (0, 1) that neither can be excluded; numpy or jax.

    Args:
      table: of `calibrate_labels`.
      probability: (N, outputs).
      known, level: see `interval`.
    """
    most = _rows(table, "scores", _row(known), level) + ROUNDING
    absent = (probability <= most) | (probability <= 0.5)
    present = (1 - probability <= most) | (probability >= 0.5)
    return (~absent).astype(probability.dtype), present.astype(probability.dtype)


def spread(predictions):
    """Returns the standard deviation over draws, (N, K, ...) -> (N, ...), NaN of a single one."""
    if predictions.shape[1] == 1:
        own = jnp if isinstance(predictions, jax.Array) else np
        shape = (predictions.shape[0], *predictions.shape[2:])
        return own.full(shape, np.nan, predictions.dtype)
    return predictions.std(1, ddof=1)


def _row(known):
    return known @ (1 << np.arange(known.shape[1]))


def _rows(table: dict, name: str, row, level: float | None = None):
    """(N, ...) of one table; a traced `row` cannot index an array of numpy."""
    values = table[name] if level is None else table[name][:, LEVELS.index(level)]
    return jnp.asarray(values)[row] if isinstance(row, jax.Array) else np.asarray(values)[row]
