"""Sets and intervals that cover their share of labels, calibrated on the validation split.

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
    predictions: np.ndarray, label: np.ndarray, code: np.ndarray, codes: int, smallest: float
) -> dict[str, np.ndarray]:
    """Makes the tables that `interval` needs.

    Args:
      predictions: (Q, K, ...), with a last axis for several outputs.
      label: (Q, ...).
      code: (Q,) pattern, the sum of 2^m over the observed m.
      codes: 2^M.
      smallest: the least variance of noise.

    Returns:
      By pattern: 'noise' (2^M, ...), variance of the label around the mean prediction that draws do
      not explain; 'spread' (2^M, ...), mean variance over draws; 'scores' of `quantiles`. float32;
      all 0 for patterns without a row.
    """
    mean, variance = predictions.mean(1), np.zeros(label.shape)
    if predictions.shape[1] > 1:
        variance = predictions.var(1, ddof=1)
    error = (label - mean) ** 2
    noise, spread = np.zeros((2, codes, *label.shape[1:]))
    for pattern in np.unique(code):
        spread[pattern] = variance[code == pattern].mean(0)
        unexplained = error[code == pattern].mean(0) - spread[pattern]
        noise[pattern] = np.maximum(unexplained, smallest)
    scores = np.sqrt(error / (noise[code] + variance))
    tables = {"noise": noise.astype(np.float32), "spread": spread.astype(np.float32)}
    return tables | {"scores": quantiles(scores, code, codes)}


def quantiles(scores: np.ndarray, code: np.ndarray, codes: int) -> np.ndarray:
    """Returns the finite-sample quantile of each pattern at `LEVELS`, (2^M, L, ...) float32, of
    scores (Q, ...); with few rows the largest score is the best there is."""
    table = np.zeros((codes, len(LEVELS), *scores.shape[1:]), np.float32)
    for pattern in np.unique(code):
        ordered = np.sort(scores[code == pattern], axis=0)
        rows = len(ordered)
        ranks = [min(rows, int(np.ceil(level * (rows + 1)))) - 1 for level in LEVELS]
        table[pattern] = ordered[ranks]
    return table


def interval(table: dict, predictions, known, level: float):
    """Returns the lower and upper ends of intervals, (N, ...) each; numpy or jax.

    Args:
      table: of `calibrate`.
      predictions: (N, K, ...).
      known: (N, M) bool, something of it is observed.
      level: of `LEVELS`.
    """
    if predictions.shape[1] > 1:
        variance = predictions.var(1, ddof=1)
    else:
        variance = of_rows(table["spread"], known)
    scale = (of_rows(table["noise"], known) + variance) ** 0.5
    half = of_rows(table["scores"], known, level) * scale
    mean = predictions.mean(1)
    return mean - half, mean + half


def spread(predictions):
    """Returns the standard deviation over draws, (N, K, ...) -> (N, ...), NaN of a single one."""
    if predictions.shape[1] == 1:
        module = jnp if isinstance(predictions, jax.Array) else np
        return module.full_like(predictions[:, 0], np.nan)
    return predictions.std(1, ddof=1)


def of_rows(table, known, level: float | None = None):
    """Returns (N, ...), the entries of a table (2^M, ...), or (2^M, L, ...) at a level, for the
    patterns known (N, M); numpy or jax."""
    values = table if level is None else table[:, LEVELS.index(level)]
    code = known @ (1 << np.arange(known.shape[1]))
    # A traced index cannot be used on an array of numpy.
    return jnp.asarray(values)[code] if isinstance(code, jax.Array) else np.asarray(values)[code]
