"""Which modalities are observed: availability patterns and missing rates, per sample, seeded."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from mmdjax.errors import UserError


def patterns(modalities: int) -> np.ndarray:
    """Return all 2^M - 1 availability patterns, (P, M) bool, by size: the complete set is last."""
    sizes = (itertools.combinations(range(modalities), size + 1) for size in range(modalities))
    observed = itertools.chain.from_iterable(sizes)
    return np.array([np.isin(range(modalities), pattern) for pattern in observed], bool)


def pattern_name(observed: Sequence[bool], modalities: Sequence[str]) -> str:
    """Return first letters joined by '+', as in 'l+a'; whole names if letters are not unique."""
    letters = [name[0] for name in modalities]
    labels = letters if len(set(letters)) == len(letters) else modalities
    return "+".join(label for label, kept in zip(labels, observed, strict=True) if kept)


def largest_rate(modalities: int) -> tuple[float, float]:
    """Return the largest rate, (M - 1) / M, which keeps one modality; and rounded up to a decimal,
    as it may be given, too (0.7 at M = 3)."""
    largest = (modalities - 1) / modalities
    return largest, np.ceil(largest * 10 - 1e-9) / 10


def is_possible(rate: float, modalities: int) -> bool:
    """Return whether a rate is in [0, (M - 1) / M], or its upper end rounded up."""
    largest, rounded = largest_rate(modalities)
    return 0 <= rate <= largest + 1e-9 or abs(rate - rounded) < 1e-9


def check_rate(rate: float, modalities: int, name: str = "missing rate") -> float:
    """Return the rate to realise.

    Raises:
      UserError: it is not possible; `name` is what it is called.
    """
    largest, rounded = largest_rate(modalities)
    if not is_possible(rate, modalities):
        raise UserError(
            f"{name} {rate} is not possible with {modalities} modalities; "
            f"allowed: 0.0 to {largest:.3f}, or {rounded:.1f} for exactly one kept"
        )
    return min(rate, largest)


def random_mask(samples: int, modalities: int, rate: float, seed: int) -> np.ndarray:
    """Draw the mask of the random protocol, (N, M) bool, at least one modality in each row.

    round(rate N M) entries are missing, so the realised rate 1 - mean(mask) is within 1 / N of the
    nominal one; they are a uniform choice among the entries but for one kept in each row, drawn
    first.

    Raises:
      UserError: impossible rate.
    """
    rate = check_rate(rate, modalities)
    rng = np.random.default_rng([seed, round(rate * 1e6), samples, modalities])
    kept = rng.integers(modalities, size=samples)
    removable = np.flatnonzero((np.arange(modalities) != kept[:, None]).ravel())
    mask = np.ones(samples * modalities, bool)
    mask[rng.choice(removable, round(rate * samples * modalities), replace=False)] = False
    return mask.reshape(samples, modalities)


def check_observed(observed: np.ndarray) -> None:
    """Raise `UserError` where a row of observed (N, M) is empty."""
    empty = np.flatnonzero(~observed.any(-1))
    if empty.size:
        raise UserError(
            f"row {empty[0]} has no observed modality; "
            f"allowed: at least one of {observed.shape[-1]}"
        )
