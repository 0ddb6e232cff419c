"""Whether two systems differ beyond chance, of training and of the utterances that were tested on.

A difference between two systems has two sources of chance: another seed trains other models, and
other utterances could have been in the test split. Both are resampled by leaving out: a metric's
pseudo-values (Tukey 1958) turn it into a mean over groups of utterances, of each seed, and the
table seeds x groups of differences is an analysis of variance with two crossed random factors
(Searle, Casella & McCulloch 1992, section 4.5; for language data, Clark 1973). The variance of the
mean d over S seeds and G groups is

    var(d) = (MS_seed + MS_group - MS_rest) / (S G),

with degrees of freedom after Satterthwaite (1946). Everything is paired by seed and utterance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from scipy import special
from scipy.stats import rankdata

GROUPS = 64  # of utterances that are left out together
LEVEL = 0.95
RESAMPLED = 2000


class Difference(NamedTuple):
    """A mean difference, its interval of `LEVEL`, and the p-value of no difference.

    With one seed the interval is of the utterances alone: it says nothing of another training.
    """

    mean: float
    low: float
    high: float
    p: float
    seeds: int

    @property
    def width(self) -> float:
        """Half of the interval's width."""
        return (self.high - self.low) / 2


class Rank(NamedTuple):
    """A mean rank and its interval of `LEVEL`."""

    mean: float
    low: float
    high: float


def groups_of(rows: int, whole: np.ndarray | None = None) -> np.ndarray:
    """Return the group (N,) of each utterance, at random and alike on every call.

    Args:
      whole: (N,) the conversation of each, whose utterances depend on each other and stay together.
    """
    units = np.arange(rows) if whole is None else np.unique(whole, return_inverse=True)[1]
    count = int(units.max()) + 1 if rows else 0
    order = np.random.default_rng(0).permutation(count)
    return order[units] % min(GROUPS, max(count, 1))


def pseudo_values(score: Callable[[np.ndarray], float], groups: np.ndarray) -> np.ndarray:
    """Return the pseudo-values (G,) of a score: G score(all) - (G - 1) score(all but one group).

    Args:
      score: of the rows (N,) bool that it is given.
      groups: (N,) of `groups_of`.
    """
    count = int(groups.max()) + 1
    every = score(np.ones(len(groups), bool))
    without = np.array([score(groups != g) for g in range(count)])
    return count * every - (count - 1) * without


def difference(values: np.ndarray, level: float = LEVEL) -> Difference:
    """Return the mean of differences (S, G) with its interval and p-value.

    The false-alarm rate of a test at 5 % lies between 3 and 7 % in simulations of either source and
    of both (tests/numerics/test_significance.py). With two seeds it is at most that: the weights of
    the quantiles are those of Cochran and Cox (1957) there, since Satterthwaite's are too narrow.
    """
    seeds, groups = values.shape
    mean = values.mean()
    if groups < 2:
        return Difference(mean, -math.inf, math.inf, 1.0, seeds)
    of_seed, of_group = values.mean(1), values.mean(0)
    ms_group = seeds * of_group.var(ddof=1)
    ms_seed = groups * of_seed.var(ddof=1) if seeds > 1 else 0.0
    rest = values - of_seed[:, None] - of_group + mean
    ms_rest = (rest**2).sum() / max((seeds - 1) * (groups - 1), 1)
    # A component of variance that is negative is none.
    variance = max(ms_seed + ms_group - ms_rest, ms_group)
    if variance < 1e-24:  # equal, or apart by the same everywhere
        p = 1.0 if abs(mean) < 1e-12 else 0.0
        return Difference(mean, mean, mean, p, seeds)
    error = math.sqrt(variance / (seeds * groups))

    def quantile(tail: float) -> float:
        of_groups = -special.stdtrit(groups - 1, tail / 2)
        if seeds == 2:
            of_seeds = -special.stdtrit(1, tail / 2)
            return (of_seeds * ms_seed + of_groups * ms_group) / (ms_seed + ms_group)
        if ms_seed <= ms_rest:
            return of_groups
        freedom = variance**2 / (ms_seed**2 / (seeds - 1) + ms_group**2 / (groups - 1))
        return -special.stdtrit(max(freedom, 1.0), tail / 2)

    half = quantile(1 - level) * error
    p = _root(lambda tail: quantile(tail) * error - abs(mean))
    return Difference(mean, mean - half, mean + half, p, seeds)


def mean_ranks(values: np.ndarray, level: float = LEVEL) -> list[Rank]:
    """Return the rank of each system, averaged over conditions; the highest value has rank 1.

    The interval holds the ranks of `RESAMPLED` draws of seeds and groups with replacement (Efron &
    Tibshirani 1993, section 13). Of few seeds it is too narrow: whether two systems differ is said
    by `difference` alone.

    Args:
      values: (systems, S, conditions, G) pseudo-values.
    """
    random = np.random.default_rng(0)

    def weights(count: int) -> np.ndarray:
        return random.multinomial(count, np.full(count, 1 / count), RESAMPLED) / count

    every = rankdata(-values.mean((1, 3)).round(9), axis=0).mean(1)
    of_groups = np.einsum("kscg,bg->bksc", values, weights(values.shape[3]))
    means = np.einsum("bksc,bs->bkc", of_groups, weights(values.shape[1]))
    ranks = rankdata(-means.round(9), axis=1).mean(2)
    tail = (1 - level) / 2
    low, high = np.quantile(ranks, (tail, 1 - tail), axis=0)
    return [Rank(*map(float, each)) for each in zip(every, low, high, strict=True)]


def _root(function: Callable[[float], float]) -> float:
    """Return the p in (0, 1] where a decreasing function crosses zero."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) > 0 else (low, middle)
    return high


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Return p-values corrected for their number (Holm 1979): the chance of one false alarm among
    all of them is at most the level."""
    worst, corrected = 0.0, {}
    for rank, name in enumerate(sorted(p, key=p.__getitem__)):
        worst = max(worst, min(1.0, (len(p) - rank) * p[name]))
        corrected[name] = worst
    return corrected
