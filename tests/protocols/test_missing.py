"""Masks: realised rate, one modality kept, seeds, names."""

import numpy as np
import pytest

from mmdjax.data.missing import check_observed, pattern_name, patterns, random_mask
from mmdjax.errors import UserError


@pytest.mark.parametrize("modalities", [2, 3, 5])
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.3, 0.5])
@pytest.mark.parametrize("samples", [7, 686])
def test_the_realised_rate_is_within_one_sample_of_the_nominal(modalities, rate, samples):
    mask = random_mask(samples, modalities, rate, seed=3)
    assert mask.any(1).all()
    assert abs(1 - mask.mean() - rate) <= 1 / samples


def test_a_rate_of_zero_hides_nothing_and_point_seven_keeps_exactly_one():
    assert random_mask(50, 3, 0.0, 0).all()
    assert (random_mask(50, 3, 0.7, 0).sum(1) == 1).all()


def test_masks_follow_the_seed_and_treat_modalities_alike():
    a, b = random_mask(3000, 3, 0.5, 0), random_mask(3000, 3, 0.5, 1)
    np.testing.assert_array_equal(a, random_mask(3000, 3, 0.5, 0))
    assert (a != b).any()
    np.testing.assert_allclose(1 - a.mean(0), 0.5, atol=0.03)


@pytest.mark.parametrize("rate", [-0.1, 0.68, 0.71, 1.0, float("nan")])
def test_an_impossible_rate_is_refused_with_what_is_allowed(rate):
    with pytest.raises(UserError, match=r"missing rate .* allowed: 0.0 to 0.667, or 0.7"):
        random_mask(10, 3, rate, 0)


def test_patterns_are_all_non_empty_subsets_with_the_complete_one_last():
    rows = patterns(3)
    assert len({tuple(r) for r in rows}) == 7 and rows.any(1).all() and rows[-1].all()
    names = [pattern_name(r, ("language", "acoustic", "vision")) for r in rows]
    assert names == ["l", "a", "v", "l+a", "l+v", "a+v", "l+a+v"]
    assert pattern_name([True, True], ("voice", "vision")) == "voice+vision"


def test_a_row_without_any_observed_modality_is_refused():
    with pytest.raises(UserError, match="row 1 has no observed modality"):
        check_observed(np.array([[True, False], [False, False]]))
