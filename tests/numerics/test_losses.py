"""The losses at known answers, and the randomness that they draw."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from mmdjax.data.missing.patterns import patterns
from mmdjax.diffusion import VP, denoising_score_matching
from mmdjax.diffusion.losses import WEIGHTS, training_times, v_weight
from mmdjax.diffusion.predictions import velocity_from_noise
from mmdjax.diffusion.sde import EDM, REGISTRY
from mmdjax.methods.latent.completion import incomplete_sets
from mmdjax.methods.latent.cover import filled_valid
from mmdjax.methods.latent.losses import random_conditions
from mmdjax.networks.encoders import noisy_features, resample

SDE = VP()


@pytest.fixture
def batch(rng):
    x0, noise = rng.standard_normal((2, 6, 4, 3)).astype(np.float32)
    mask = np.arange(4) < np.array([4, 4, 3, 2, 1, 0])[:, None]
    return x0, noise, mask, jnp.linspace(0.05, 1.0, 6)


def test_the_loss_is_zero_at_the_exact_noise_and_counts_valid_frames_only(batch):
    x0, noise, mask, t = batch
    exact = denoising_score_matching(lambda x, t: noise, SDE, x0, mask, t, noise)
    np.testing.assert_array_equal(exact, 0)
    off = np.where(mask[..., None], noise + 2.0, 1e6)
    error = denoising_score_matching(lambda x, t: off, SDE, x0, mask, t, noise)
    np.testing.assert_allclose(error, [4, 4, 4, 4, 4, 0], rtol=1e-5)


def test_the_v_weight_measures_the_error_in_v(batch, rng):
    x0, noise, mask, t = batch
    alpha, std = (a[:, None, None] for a in SDE.marginal(t))
    guess = rng.standard_normal(x0.shape).astype(np.float32)  # a predicted v

    def noise_fn(x, t):
        return alpha * guess + std * x

    loss = denoising_score_matching(noise_fn, SDE, x0, mask, t, noise, v_weight)
    error = (guess - (alpha * noise - std * x0)) ** 2
    expected = (error * mask[..., None]).sum((1, 2)) / np.maximum(3 * mask.sum(1), 1)
    np.testing.assert_allclose(loss, expected, rtol=2e-3)


def test_the_exact_score_reaches_the_known_floor_of_the_loss():
    """N(0, s^2): the best noise prediction leaves alpha^2 s^2 / total unexplained."""
    count, s = 200_000, 0.7
    keys = jax.random.split(jax.random.key(0), 2)
    x0 = s * jax.random.normal(keys[0], (count, 1, 1))
    noise = jax.random.normal(keys[1], (count, 1, 1))
    for time in (0.1, 0.4, 0.8):
        alpha, std = SDE.marginal(time)
        total = alpha**2 * s**2 + std**2
        t = jnp.full(count, time)
        mask = np.ones((count, 1), bool)

        def exact(x, t, gain=std / total):
            return gain * x

        loss = denoising_score_matching(exact, SDE, x0, mask, t, noise)
        assert abs(loss.mean() / (alpha**2 * s**2 / total) - 1) < 0.02


@pytest.mark.parametrize("name", REGISTRY)
def test_weights_on_the_noise_are_the_published_weights_on_their_own_targets(name):
    sde = REGISTRY[name]()
    t = jnp.linspace(sde.t_min, sde.t_max, 11)
    alpha, std = sde.marginal(t)
    snr = (alpha / std) ** 2
    # An error e in the noise is e / std in the score and e std / alpha in x(0).
    published = {
        "noise": std**2 / std**2,
        "likelihood": sde.diffusion(t) ** 2 / std**2,
        "edm": ((std / alpha) ** 2 + 1) / (std / alpha) ** 2 / snr,
        "min_snr": jnp.minimum(snr, 5.0) / snr,
        "v": (alpha**2 + std**2) / alpha**2,
    }
    # Of the velocity f + rate z, an error e in the noise is rate e.
    x, ones = jnp.zeros((11, 1)), jnp.ones((11, 1))
    rate = velocity_from_noise(sde, x, ones, t) - velocity_from_noise(sde, x, 0 * ones, t)
    published["velocity"] = rate[:, 0] ** 2
    inner = np.clip(np.asarray(t, np.float64), 1e-6, 1 - 1e-6)
    density = stats.norm.pdf(special.logit(inner)) / (inner * (1 - inner))
    inside = (t > 0) & (t < 1)
    published["logit_normal"] = np.where(inside, published["velocity"] * density, 0)
    assert set(published) == set(WEIGHTS)
    for key, weight in published.items():
        np.testing.assert_allclose(WEIGHTS[key](sde, t), weight, rtol=1e-4)


def test_the_v_weight_makes_the_loss_of_any_sde_that_of_the_preconditioned_network():
    """EDM's lambda c_out^2 = 1 (Karras et al. 2022, eq. 8): the weighted noise error is v's own."""
    t = jnp.linspace(0.05, 1.0, 5)
    sigma = EDM().marginal(t)[1]
    c_out, clean_weight = sigma / jnp.sqrt(sigma**2 + 1), (sigma**2 + 1) / sigma**2
    np.testing.assert_allclose(clean_weight * c_out**2, 1, rtol=1e-5)
    np.testing.assert_allclose(v_weight(EDM(), t), clean_weight * sigma**2, rtol=1e-5)


def test_training_times_fall_one_into_each_of_b_equal_parts_in_random_order():
    t = np.asarray(training_times(jax.random.key(3), 10, SDE))
    part = (t - SDE.t_min) / (1 - SDE.t_min) * 10
    assert sorted(np.floor(part).astype(int)) == list(range(10))
    assert (np.diff(t) < 0).any() and (np.diff(t) > 0).any()


def test_random_conditions_are_uniform_over_non_empty_subsets():
    kept = np.asarray(random_conditions(jax.random.key(0), np.ones((9000, 2), bool)))
    codes, counts = np.unique(kept @ [1, 2], return_counts=True)
    assert codes.tolist() == [1, 2, 3] and (abs(counts - 3000) < 200).all()


def test_each_utterance_meets_every_incomplete_pattern_before_any_again():
    rows = incomplete_sets(patterns(3), np.ones((20, 3), bool), 9, seed=0)
    assert rows.shape == (20, 9, 3)
    codes = rows @ [1, 2, 4]
    assert all(len(set(c[:6])) == 6 and len(set(c[6:])) == 3 for c in codes)
    assert not (codes == 7).any() and len({tuple(c[:6]) for c in codes}) > 10


def test_a_missing_modality_takes_the_frames_of_the_observed_ones():
    valid = np.array([[[1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]], bool)
    got = filled_valid(valid, np.array([[True, True, False]]))
    np.testing.assert_array_equal(got[0], [[1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 0]])


def test_noise_on_a_mean_has_the_law_of_the_mean_of_noisy_frames(rng):
    """One latent frame: of utterances of 1, 4 and 7 frames, and of one that lacks the modality."""
    count, frames, channels, lengths = 4000, 7, 3, np.array([1, 4, 7, 0])
    x = rng.standard_normal((4, frames, channels)).astype(np.float32)
    valid = np.arange(frames) < lengths[:, None]

    def mean(key, latent_frames):
        features, there = noisy_features({"a": x}, {"a": valid}, (0.5,), key, latent_frames)
        return resample(features["a"], there["a"], 1)

    keys = jax.random.split(jax.random.key(0), count)
    (one, there), (all_, there_all) = (
        jax.vmap(lambda key, n=n: mean(key, n))(keys) for n in (1, frames)
    )
    np.testing.assert_array_equal(there, there_all)
    assert not there[:, 3].any() and not np.asarray(one)[:, 3].any()
    for row, length in enumerate(lengths[:3]):
        middle = x[row, :length].mean(0)
        for made in (one, all_):
            made = np.asarray(made)[:, row, 0]
            z = (made - middle) * np.sqrt(length) / 0.5
            assert all(stats.kstest(z[:, c], "norm").pvalue > 1e-4 for c in range(channels))
            independent = np.corrcoef(z.T)[np.triu_indices(channels, 1)]
            assert np.abs(independent).max() < 4.5 / np.sqrt(count)


def test_noise_on_features_of_several_latent_frames_is_on_each_frame(rng):
    x, valid = np.zeros((64, 7, 5), np.float32), np.ones((64, 7), bool)
    features, there = noisy_features({"a": x}, {"a": valid}, (0.5,), jax.random.key(0), 4)
    assert (features["a"].shape, there["a"].shape) == (x.shape, valid.shape)
    assert stats.kstest(np.ravel(features["a"]) / 0.5, "norm").pvalue > 1e-4
