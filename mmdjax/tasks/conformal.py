"""Sets and intervals that cover their share of labels, calibrated on the validation split.

Split conformal prediction. A prediction is the mean of K draws' predictions; what is uncertain is
the label given what was drawn, and what was drawn. Scores are calibrated for each `cells`, which is
an availability pattern and how much of its modalities is observed, and for numbers of draws: with
exchangeable utterances an interval or set at level 1 - a covers at least that share of labels (Vovk
et al. 2005). Numbers are scored by |y - mean| / sqrt(noise + variance over draws) (Papadopoulos et
al. 2008), classes and labels by 1 - the probability of what is true (Sadinle et al. 2019). Several
outputs are calibrated one by one: each covers its own share, not all of them together. The
checkpoint was chosen on the same split, which is slightly optimistic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np

Array = np.ndarray | jax.Array  # of functions that take either

LEVELS = (0.5, 0.8, 0.9, 0.95)
SMALLEST_NOISE = 1e-6
# A threshold is the probability of some validation row, rounded once more on its way to a device.
ROUNDING = 1e-6
# Shares of a pattern's modalities that are observed, mean over those: of whole ones, and knots that
# a row in part takes the next lower of.
SHARES = (1.0, 0.85, 0.7, 0.55, 0.4, 0.3, 0.2, 0.14, 0.1, 0.07, 0.05, 0.03)
CELLS = len(SHARES)
NEAREST = 8  # a knot is calibrated on this part of the rows in part of its pattern
LEAST = 60  # and on so many rows at least


def cells(known: Array, share: Array | None = None) -> Array:
    """Returns the cell of each row, (N,) int; numpy or jax.

    Args:
      known: (N, M) bool, something of the modality is observed.
      share: (N, M), how much of it; all of it where None.
    """
    code = known @ (1 << np.arange(known.shape[-1]))
    if share is None:
        return code
    mean, patterns = mean_share(known, share), 2 ** known.shape[-1]
    return code + patterns * sum(mean < edge - 1e-4 for edge in SHARES[:-1])


def mean_share(known: Array, share: Array) -> Array:
    """Returns (N,), the mean of shares (N, M) over known modalities; numpy or jax."""
    module = jnp if isinstance(known, jax.Array) else np
    return module.where(known, share, 0.0).sum(-1) / module.maximum(known.sum(-1), 1)


def rows_of(
    code: np.ndarray, codes: int, share: np.ndarray | None = None
) -> Iterator[tuple[int, np.ndarray]]:
    """Yields each cell that has rows, or whose pattern has, and the rows it is calibrated on: of
    whole modalities its own, of a knot those in part whose share is nearest to it.

    Args:
      code: (Q,) of `cells`. codes: 2^M. share: (Q,) of `mean_share`; None where all are whole.
    """
    pattern, whole = code % codes, code < codes
    for cell in range(codes * CELLS):
        of_pattern = pattern == cell % codes
        own = np.flatnonzero(of_pattern & whole)
        others = np.flatnonzero(of_pattern & ~whole)
        if cell >= codes and len(others):
            apart = np.abs(np.log(share[others] / SHARES[cell // codes]))
            count = max(LEAST, len(others) // NEAREST)
            own = others[apart.argsort(kind="stable")[:count]]
        if len(own):
            yield cell, own


def counts_of(draws: int) -> list[int]:
    """Returns the numbers of draws that are calibrated: powers of two, up to those there are."""
    return [2**i for i in range(draws.bit_length())]


def calibrate(
    predictions: np.ndarray,
    label: np.ndarray,
    code: np.ndarray,
    codes: int,
    smallest: float | np.ndarray,
    share: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Makes the tables that `interval` needs.

    Args:
      predictions: (Q, K, ...), with a last axis for several outputs.
      label: (Q, ...).
      code, codes, share: of `rows_of`.
      smallest: the least variance of noise.

    Returns:
      By cell: 'noise' (C, ...), variance of the label around the mean prediction that draws do not
      explain; 'spread' (C, ...), mean variance over draws; 'scores' of `quantiles`. float32; all 0
      for patterns without a row.
    """
    mean, variance = predictions.mean(1), np.zeros(label.shape)
    if predictions.shape[1] > 1:
        variance = predictions.var(1, ddof=1)
    error = (label - mean) ** 2
    noise, spread = np.zeros((2, codes * CELLS, *label.shape[1:]))
    for cell, rows in rows_of(code, codes, share):
        spread[cell] = variance[rows].mean(0)
        noise[cell] = np.maximum(error[rows].mean(0) - spread[cell], smallest)

    def scored(cell: int, rows: np.ndarray, count: int) -> np.ndarray:
        some = predictions[rows, :count]
        off = np.abs(label[rows] - some.mean(1))
        return off / np.sqrt(noise[cell] + (some.var(1, ddof=1) if count > 1 else spread[cell]))

    tables = {"noise": noise.astype(np.float32), "spread": spread.astype(np.float32)}
    return tables | {"scores": quantiles(scored, predictions.shape[1], code, codes, share)}


def quantiles(
    scored: Callable, draws: int, code: np.ndarray, codes: int, share: np.ndarray | None = None
) -> np.ndarray:
    """Returns the finite-sample quantiles of scores at `LEVELS`, (counts, C, L, ...) float32, for
    each number of draws (`counts_of`) and cell; with few rows the largest score is the best there
    is.

    Args:
      scored: (cell, rows (n,), number of draws) -> scores (n, ...) of their first draws.
      code, codes, share: of `rows_of`.
    """
    counts, table = counts_of(draws), None
    for cell, rows in rows_of(code, codes, share):
        size, levels = len(rows), np.array(LEVELS)
        if cell >= codes:  # rows that are like it only: one standard error more
            levels = levels + np.sqrt(levels * (1 - levels) / size)
        ranks = np.minimum(size, np.ceil(levels * (size + 1)).astype(int)) - 1
        for place, count in enumerate(counts):
            ordered = np.sort(scored(cell, rows, count), axis=0)
            if table is None:
                shape = (len(counts), codes * CELLS, len(LEVELS), *ordered.shape[1:])
                table = np.zeros(shape, np.float32)
            table[place, cell] = ordered[ranks]
    return table


def interval(
    table: Mapping[str, Array], predictions: Array, code: Array, level: float
) -> tuple[Array, Array]:
    """Returns the lower and upper ends of intervals, (N, ...) each; numpy or jax.

    Args:
      table: of `calibrate`.
      predictions: (N, K, ...).
      code: (N,) of `cells`.
      level: of `LEVELS`.
    """
    draws = predictions.shape[1]
    variance = predictions.var(1, ddof=1) if draws > 1 else of_rows(table["spread"], code)
    scale = (of_rows(table["noise"], code) + variance) ** 0.5
    half = threshold(table, code, draws, level) * scale
    mean = predictions.mean(1)
    return mean - half, mean + half


def threshold(table: Mapping[str, Array], code: Array, draws: int, level: float) -> Array:
    """Returns (N, ...), the scores that cells allow at a level for so many draws: those of the
    largest number of draws that was calibrated and is not above it."""
    scores = table["scores"]
    place = min(draws.bit_length(), scores.shape[0]) - 1
    return of_rows(scores[place][:, LEVELS.index(level)], code)


def spread(predictions: Array) -> Array:
    """Returns the standard deviation over draws, (N, K, ...) -> (N, ...), NaN of a single one."""
    if predictions.shape[1] == 1:
        module = jnp if isinstance(predictions, jax.Array) else np
        return module.full_like(predictions[:, 0], np.nan)
    return predictions.std(1, ddof=1)


def of_rows(table: Array, code: Array) -> Array:
    """Returns (N, ...), the entries of a table (C, ...) for the cells of rows; numpy or jax."""
    # A traced index cannot be used on an array of numpy.
    return jnp.asarray(table)[code] if isinstance(code, jax.Array) else np.asarray(table)[code]
