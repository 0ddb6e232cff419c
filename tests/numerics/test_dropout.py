"""Masks of the fast dropout are those of independent coins."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mmdjax.networks.dropout import Dropout, random_bits

SHAPE = (64, 32, 512)  # 2^20 entries
KEYS = [jax.random.key(0), jax.random.key(1), jax.random.fold_in(jax.random.key(0), 1)]


def dropped(key, rate=0.3, shape=SHAPE):
    x = jnp.ones(shape)
    return np.asarray(Dropout(rate).apply({}, x, False, rngs={"dropout": key})) == 0


def near_zero(correlation, count):
    return abs(correlation) < 4.5 / count**0.5


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_entries_are_dropped_at_the_rate_and_kept_ones_keep_the_mean(key, rate):
    made = np.asarray(Dropout(rate).apply({}, jnp.ones(SHAPE), False, rngs={"dropout": key}))
    error = 4.5 * (rate * (1 - rate) / made.size) ** 0.5
    assert abs((made == 0).mean() - rate) < error
    np.testing.assert_allclose(made[made != 0], 1 / (1 - rate), rtol=1e-6)


@pytest.mark.parametrize("key", KEYS)
def test_neighbours_on_every_axis_and_at_every_distance_are_independent(key):
    mask = dropped(key) - 0.3
    for axis in range(3):
        for distance in (1, 2, 3, 7, 16):
            a, b = np.moveaxis(mask, axis, 0)[:-distance], np.moveaxis(mask, axis, 0)[distance:]
            assert near_zero((a * b).mean() / 0.21, a.size)


def test_masks_of_different_keys_are_independent_at_every_shift():
    keys = [*KEYS, *jax.random.split(jax.random.key(2), 5)]
    masks = [dropped(key).ravel() - 0.3 for key in keys]
    for i, a in enumerate(masks):
        for b in masks[:i]:
            # All shifts at once: circular correlations.
            found = np.fft.irfft(np.fft.rfft(a) * np.conj(np.fft.rfft(b)), a.size) / a.size / 0.21
            assert np.abs(found).max() < 6.5 / a.size**0.5


@pytest.mark.parametrize("key", KEYS)
def test_bits_are_uniform(key):
    bits = np.asarray(random_bits(key, SHAPE)).ravel()
    for shift in (0, 8, 16, 24):
        counts = np.bincount((bits >> shift) & 255, minlength=256)
        assert stats.chisquare(counts).pvalue > 1e-6


def test_counts_a_row_are_binomial():
    count = dropped(KEYS[0], 0.5).reshape(-1, 64).sum(1)
    expected = stats.binom(64, 0.5).pmf(np.arange(20, 45)) * len(count)
    found = np.bincount(count, minlength=65)[20:45]
    assert stats.chisquare(found, expected * found.sum() / expected.sum()).pvalue > 1e-6


def test_one_key_makes_one_mask_and_stacked_keys_make_masks_of_their_own():
    assert (dropped(KEYS[0]) == dropped(KEYS[0])).all()
    keys = jax.random.split(KEYS[0], 3)
    one, two, _ = np.asarray(jax.vmap(lambda key: random_bits(key, (4000,)))(keys))
    assert (one != two).mean() > 0.99


def test_nothing_is_dropped_in_evaluation_or_at_rate_zero():
    x = jnp.arange(5.0)
    assert (Dropout(0.5).apply({}, x, True) == x).all()
    assert (Dropout(0.0).apply({}, x, False) == x).all()
