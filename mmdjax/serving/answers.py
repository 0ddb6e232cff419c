"""What an `Imputer` answers, and to which utterances."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import jax
import numpy as np

from mmdjax.serving import inputs

MOST_NAMED = 5  # utterances that a warning names


class Imputed(NamedTuple):
    """Completed utterances.

    Attributes:
      features: modality -> (N, T_m, C_m) float32, and (K, N, T_m, C_m) of K > 1 draws; observed
        values are copied bit for bit, 0 after an utterance's end.
      drawn: modality -> (N, T_m) bool, frames that were missing.
      exists: modality -> (N, T_m) bool, frames of the completed utterance.
      spread: modality -> (N,) root mean square deviation over draws of what was drawn, in standard
        deviations of the training data; 0 where nothing was, NaN with a single draw.
    """

    features: dict[str, np.ndarray]
    drawn: dict[str, np.ndarray]
    exists: dict[str, np.ndarray]
    spread: dict[str, np.ndarray]


class Predicted(NamedTuple):
    """Predictions for N utterances; what the model's task has not is None.

    Attributes:
      mean: (N,) or (N, outputs) average over draws: numbers, or probabilities.
      spread: over draws, see `Task.spread`; NaN with a single one.
      draws: (N, K) or (N, K, outputs), of each draw.
      low, high: ends of the intervals, in the shape of `mean`; of several labels 0 or 1, where a
        label is certainly present or cannot be excluded.
      within: (N, outputs) bool, the classes or labels that cannot be excluded at the level.
      names: of classes, labels or outputs; () of a single number.
    """

    mean: np.ndarray
    spread: np.ndarray
    draws: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    within: np.ndarray | None = None
    names: tuple[str, ...] = ()


def kept(given: inputs.Given) -> np.ndarray:
    """Return the rows that are answered, and warn of the others."""
    why = given.left_out
    some = "; ".join(f"utterance {row} {why[row]}" for row in sorted(why)[:MOST_NAMED])
    more = f"; and {len(why) - MOST_NAMED} more" if len(why) > MOST_NAMED else ""
    warnings.warn(f"not answered, NaN: {some}{more}", stacklevel=5)
    return np.array([row for row in range(len(given)) if row not in why])


def spread_out(found: dict, rows: np.ndarray, size: int) -> dict:
    """Return answers to some rows as those to all of `size`: NaN, or False, of the others."""

    def of_all(a: np.ndarray) -> np.ndarray:
        whole = np.full((size, *a.shape[1:]), np.nan if a.dtype.kind == "f" else 0, a.dtype)
        whole[rows] = a
        return whole

    return jax.tree.map(of_all, found)
