"""Masks: realised rate, one modality kept, seeds, names; sets that stage 2 learns from."""

import copy
import dataclasses

import jax
import numpy as np
import pytest

from mmdjax import config as configs
from mmdjax.config.resolve import systems_of
from mmdjax.data.missing.patterns import check_observed, pattern_name, patterns, random_mask
from mmdjax.errors import UserError
from mmdjax.methods.latent.completion import incomplete_sets, training_sets
from mmdjax.types import Observed
from tests.conftest import TINY


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


def test_training_meets_every_incomplete_pattern_equally_often():
    incomplete = patterns(3)[:-1]
    for rounds, times in ((6, 1), (12, 2)):
        sets = incomplete_sets(patterns(3), np.ones((40, 3), bool), rounds, seed=0)
        count = (sets[:, :, None] == incomplete).all(-1).sum(1)
        assert (count == times).all()


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.7])
def test_training_at_a_rate_follows_the_random_protocol_complete_sets_among_them(rate):
    size, rounds = 400, 4
    whole = np.ones((size, 3), bool)
    sets = incomplete_sets(patterns(3), whole, rounds, 1, rate)
    assert sets.shape == (size, rounds, 3) and sets.any(-1).all()
    assert abs(1 - sets.mean() - min(rate, 2 / 3)) <= 1 / (size * rounds)
    assert sets.all(-1).any() == (rate < 0.7)
    np.testing.assert_array_equal(sets, incomplete_sets(patterns(3), whole, rounds, 1, rate))
    assert (sets != incomplete_sets(patterns(3), whole, rounds, 2, rate)).any()
    # Not what the same seed is evaluated on.
    assert (sets.reshape(-1, 3) != random_mask(size * rounds, 3, rate, 1)).any()


def test_stage_2_learns_from_sets_at_the_configured_rate(tiny_system):
    system = copy.copy(tiny_system)
    scale, z = system.standardised(system.init_encoders(jax.random.key(0)))
    zeros = system.constant("zero", scale)

    def observed(rate):
        system.config = dataclasses.replace(tiny_system.config, training_rate=rate)
        source, _ = training_sets(system, 0, scale, z, None, zeros, None)
        return source.rows["observed"]

    assert (np.asarray(observed(0.7)).sum(-1) == 1).all()
    default = incomplete_sets(system.patterns, z["train"].present, system.config.rounds, 0)
    np.testing.assert_array_equal(observed(0.0), default)


def test_a_pattern_is_a_condition_on_every_utterance():
    observed = Observed.of_patterns(patterns(2), np.ones((3, 2), bool))
    assert observed.modalities.shape == (3, 3, 2) and not observed.everything
    assert Observed(observed.modalities[-1:]).everything
    valid = {"a": np.arange(4) < np.array([[4], [2], [1]]), "b": np.ones((3, 1), bool)}
    frames = observed.of_frames(valid)
    for condition, (a, b) in enumerate(patterns(2)):
        np.testing.assert_array_equal(frames["a"][condition], valid["a"] & a)
        np.testing.assert_array_equal(frames["b"][condition], valid["b"] & b)
    assert not Observed(observed.modalities[-1:], frames).everything  # frames may be missing


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"training_rate": 0.8}, "config.training_rate 0.8 is not possible"),
        ({"training_rate": -0.1}, "training_rate = -0.1; allowed: at least 0"),
        ({"training_rate": 0.3, "method": "imder"}, "with method 'imder'; allowed: 0 for both"),
    ],
)
def test_a_training_rate_that_cannot_be_is_refused(changes, words):
    with pytest.raises(UserError, match=words):
        systems_of(configs.from_dict(TINY | changes))
