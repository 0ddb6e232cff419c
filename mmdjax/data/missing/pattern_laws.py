"""Laws over the 2^M - 1 availability patterns whose missing rates are the asked ones exactly.

Something is always kept, which distorts the rates of failures that are drawn without regard to it.
Here the failures' own probabilities are solved for, so that the rates given that something is kept
are right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from mmdjax.data.missing.patterns import patterns
from mmdjax.errors import UserError

SLACK = 1e-6  # the largest rate that is possible is realised up to this


def independent_patterns(rates: np.ndarray) -> np.ndarray:
    """Return the law of independent failures, given that one modality is kept, with these rates.

    Given something is kept, independent failures with probability q_m are missing at the rate
    (q_m - Q) / (1 - Q), Q = prod q. So q_m = 1 - s (1 - rates[m]) with s = 1 - Q, where s solves
    1 - s = prod_m (1 - s (1 - rates[m])): one root in (0, 1] where the expected number kept,
    sum_m (1 - rates[m]), is above 1; at 1 exactly one is kept. Below 1 no law keeps one.

    Args:
      rates: (..., M) in [0, 1].

    Returns:
      (..., P) probabilities of `missing.patterns`.

    Raises:
      UserError: rates that do not leave one modality.
    """
    kept = 1 - rates
    if not ((kept >= 0) & (kept <= 1)).all() or (kept.sum(-1) < 1 - 1e-9).any():
        raise UserError(
            f"missing rates {np.round(rates, 3).tolist()} leave less than one modality; allowed: "
            f"each from 0 to 1, their sum at most {rates.shape[-1] - 1}"
        )
    ones = np.ones(kept.shape[:-1])
    some = bisect(
        lambda s: 1 - s - (1 - s[..., None] * kept).prod(-1), 1e-9 * ones, ones, falling=True
    )
    fails = 1 - some[..., None, None] * kept[..., None, :]
    weight = np.where(patterns(rates.shape[-1]), 1 - fails, fails).prod(-1)
    return weight / weight.sum(-1, keepdims=True)


def correlated_patterns(rate: float, rho: float, group: Sequence[int]) -> np.ndarray:
    """Return the law of failures that groups share, given that one modality is kept.

    A group has a state that is "missing" with probability q; each of its modalities takes the
    group's state with probability c, and one of its own, as likely "missing", otherwise. So within
    a group the indicators have correlation c^2, between groups none, and everything is missing with
    probability Q(q, c). Given that this is not so, a modality is missing at the rate
    (q - Q) / (1 - Q), and two of a group at (q^2 + c^2 q (1 - q) - Q) / (1 - Q). q and c are solved
    for, to make the first `rate` and the correlation `rho`; since something is kept, modalities of
    different groups then have a slightly negative one.

    Args:
      group: (M,) which group each modality is in.

    Returns:
      (P,) probabilities of `missing.patterns`.

    Raises:
      UserError: rho not in [0, 1], or a rate that leaves no such law.
    """
    if not 0 <= rho <= 1:
        raise UserError(f"correlation rho {rho}; allowed: 0 to 1")
    sizes = np.unique(np.asarray(group), return_counts=True)[1]

    def law(everything, rate):
        """Return q, c of which a share `everything` is thrown away."""
        both = rate**2 + rho * rate * (1 - rate)
        q = rate + (1 - rate) * everything
        square = (both + (1 - both) * everything - q**2) / np.maximum(q * (1 - q), 1e-300)
        return q, np.sqrt(np.clip(square, 0, 1))

    def kept(rate):
        """Return P(something is kept) / (1 - Q) as Q -> 1: above 1 there is a solution."""
        both = rate**2 + rho * rate * (1 - rate)
        c = np.sqrt(np.clip((1 - 2 * rate + both) / (1 - rate), 0, 1))
        return (1 - rate) * (1 + sizes * (1 - c) - (1 - c) ** sizes).sum()

    most = float(bisect(lambda r: kept(r) - 1 - SLACK, 0.0, 1 - 1e-9, falling=True))
    if not 0 <= rate <= most + 2 * SLACK:
        allowed = np.floor((most + 2 * SLACK) * 1e3) / 1e3
        raise UserError(
            f"missing rate {rate} with correlation {rho} in groups of {sizes.tolist()} modalities; "
            f"allowed: 0 to {allowed:g}"
        )
    rate = min(rate, most)

    def excess(everything):
        q, c = law(everything, rate)
        lost = q * (c + (1 - c) * q) ** sizes + (1 - q) * ((1 - c) * q) ** sizes
        return lost.prod() - everything

    q, c = law(bisect(excess, 0.0, 1 - 1e-9, falling=True), rate)
    rows, weight = patterns(len(group)), 1.0
    for g in dict.fromkeys(group):
        observed = rows[:, np.asarray(group) == g]
        alone = (1 - c) * np.where(observed, 1 - q, q)
        weight *= q * (alone + c * ~observed).prod(1) + (1 - q) * (alone + c * observed).prod(1)
    return weight / weight.sum()


def bisect(
    function: Callable, low: float | np.ndarray, high: float | np.ndarray, falling: bool = False
) -> float | np.ndarray:
    """Return where a function of arrays crosses zero between `low` and `high`, elementwise."""
    for _ in range(80):
        middle = (np.asarray(low) + high) / 2
        below = (function(middle) < 0) != falling
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2
