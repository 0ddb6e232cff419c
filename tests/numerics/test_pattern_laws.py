"""Laws of which modalities fail together: rates, correlations, independence."""

import itertools

import numpy as np
import pytest

from mmdjax.data.missing.pattern_laws import correlated_patterns, independent_patterns
from mmdjax.data.missing.patterns import patterns

from .test_gaps import NAMES, assert_rate, draw

GROUPS = [(0, 1, 1), (0, 0, 1, 1), (0, 0, 0, 1, 2), (0, 1, 2, 3, 4, 4)]


@pytest.mark.parametrize("group", GROUPS, ids=str)
@pytest.mark.parametrize("rho", [0.0, 0.3, 0.8, 1.0])
@pytest.mark.parametrize("rate", [0.02, 0.3, 0.49])
def test_the_shared_law_has_the_rate_and_the_correlation_exactly(group, rho, rate):
    law, missing = correlated_patterns(rate, rho, group), ~patterns(len(group))
    np.testing.assert_allclose([law.sum(), *(law @ missing)], [1] + [rate] * len(group))
    assert law.min() >= 0
    for i, j in itertools.combinations(range(len(group)), 2):
        both = law @ (missing[:, i] & missing[:, j])
        correlation = (both - rate**2) / (rate * (1 - rate))
        if group[i] == group[j]:
            np.testing.assert_allclose(correlation, rho, atol=1e-7)
        else:
            assert correlation < 1e-9


def test_the_largest_rate_that_is_possible_is_realised():
    """Two groups that are whole: exactly one of them is missing."""
    law = correlated_patterns(0.5, 1.0, (0, 1, 1))
    kept = dict(zip(map(tuple, patterns(3).tolist()), law, strict=True))
    halves = [kept[True, False, False], kept[False, True, True]]
    np.testing.assert_allclose(halves, 0.5, atol=1e-5)


@pytest.mark.parametrize("rho", [0.0, 0.6, 1.0])
def test_camera_and_light_fail_together_as_often_as_asked(rho):
    observed = draw("correlated", size=8000, rate=0.3, rho=rho, groups=(("acoustic", "vision"),))
    missing = {m: ~o.any(1) for m, o in observed.items()}
    for m, o in observed.items():
        np.testing.assert_array_equal(o.all(1), ~missing[m])  # whole modalities
        assert_rate(missing[m], 0.3)
    assert_rate(missing["acoustic"] & missing["vision"], 0.09 + rho * 0.21)
    by_default = draw("correlated", size=8000, rate=0.3, rho=rho)
    assert all((by_default[m] == observed[m]).all() for m in NAMES)


@pytest.mark.parametrize("rates", [(0.1, 0.3, 0.5), (0.6, 0.7, 0.7), (1.0, 0.2, 0.0), (0.8,) * 5])
def test_independent_failures_have_their_rates_given_that_one_is_kept(rates):
    law, missing = independent_patterns(np.array(rates)), ~patterns(len(rates))
    np.testing.assert_allclose(law @ missing, rates, atol=1e-8)
    rows = np.array(rates)[:, None] * np.array([1, 0.5, 0.25, 0.1, 0.0])[: len(rates)]
    np.testing.assert_allclose(
        independent_patterns(rows)[0], independent_patterns(rows[0]), atol=1e-12
    )


def test_independent_failures_are_independent_but_for_the_pattern_that_keeps_nothing():
    """Odds of failing do not depend on the others, wherever something else is kept."""
    law, rows = independent_patterns(np.array([0.2, 0.4, 0.5])), patterns(3)
    of = {tuple(row): p for row, p in zip(rows, law, strict=True)}
    odds = [of[True, False, rest] / of[True, True, rest] for rest in (True, False)]
    odds.append(of[False, False, True] / of[False, True, True])
    np.testing.assert_allclose(odds, odds[0])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"rates": (0.1, 0.35, 0.75)}, (0.1, 0.35, 0.75)),
        ({}, (0.2, 0.4, 0.6)),
        ({"spread": 0.0}, (0.4, 0.4, 0.4)),
        ({"spread": 1.0}, (0.0, 0.4, 0.8)),
    ],
)
def test_each_modality_is_missing_at_its_own_rate(settings, expected):
    observed = draw("imbalanced", size=8000, rate=0.4, **settings)
    for o, rate in zip(observed.values(), expected, strict=True):
        np.testing.assert_array_equal(o.all(1), o.any(1))
        assert_rate(~o.any(1), rate)
