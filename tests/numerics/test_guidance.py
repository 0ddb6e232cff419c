"""Guidance and held entries, with exact scores: limits, laws, and what is only approximate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdjax.diffusion import VP, sample, time_grid
from mmdjax.diffusion.exact import exact_conditional_noise, gaussian_noise
from mmdjax.diffusion.guidance import classifier, classifier_free, through_clean
from mmdjax.diffusion.held import hold, restore

SDE, CORRELATION, COUNT = VP(), 0.8, 40_000
KEYS = jax.random.split(jax.random.key(0), COUNT)
CONDITION = jnp.full((COUNT, 1), 1.3)


def conditional(x, t):
    return exact_conditional_noise("clean", SDE, x, CONDITION[: len(x)], CORRELATION, t)


def unconditional(x, t):
    return gaussian_noise(SDE, x, 0.0, 1.0, t)


def draw(noise_fn, shape=(1,), method="dpmpp_2m", grid="log_snr", steps=40, **options):
    times = time_grid(grid, SDE, steps)
    return sample(KEYS, shape, noise_fn, SDE, times, method, **options)


def test_guidance_scale_one_is_conditional_and_zero_is_unconditional():
    for scale, alone in ((1.0, conditional), (0.0, unconditional)):
        guided = draw(classifier_free(conditional, unconditional, scale))
        np.testing.assert_allclose(guided.x, draw(alone).x, atol=1e-5)
        assert guided.nfe == 2 * draw(alone).nfe
    x = draw(conditional).x
    assert float(x.mean()) == pytest.approx(CORRELATION * 1.3, abs=0.02)
    assert float(x.std()) == pytest.approx(np.sqrt(1 - CORRELATION**2), abs=0.01)


def test_every_row_may_have_a_scale_of_its_own():
    scale = jnp.tile(jnp.array([0.0, 1.0]), COUNT // 2)
    guided = draw(classifier_free(conditional, unconditional, scale)).x
    np.testing.assert_allclose(guided[::2], draw(unconditional).x[::2], atol=1e-5)
    np.testing.assert_allclose(guided[1::2], draw(conditional).x[1::2], atol=1e-5)


def test_more_guidance_moves_further_and_narrows():
    one, three = (draw(classifier_free(conditional, unconditional, s)).x for s in (1.0, 3.0))
    assert float(three.mean()) > float(one.mean()) + 0.1
    assert float(three.std()) < float(one.std())


@pytest.mark.parametrize("method", ["dpmpp_2m", "heun", "ancestral"])
def test_classifier_guidance_with_the_exact_classifier_draws_from_the_posterior(method):
    """x ~ N(0, 1), y = x + N(0, 0.3): p(y | x(t)) is Gaussian, and so is p(x | y)."""
    y, noise = 1.1, 0.3

    def log_prob(x, t):
        alpha, std = SDE.marginal(t)
        mean, variance = (
            alpha * x[:, 0],
            std**2 + noise,
        )  # E and Var of y given x(t), alpha^2+std^2=1
        return -0.5 * (y - mean) ** 2 / variance

    guided = classifier(unconditional, SDE, log_prob, 1.0)
    result = draw(guided, method=method, steps=300 if method == "ancestral" else 60)
    assert float(result.x.mean()) == pytest.approx(y / (1 + noise), abs=0.02)
    assert float(result.x.std()) == pytest.approx(np.sqrt(noise / (1 + noise)), abs=0.02)
    none = draw(classifier(unconditional, SDE, log_prob, 0.0)).x
    np.testing.assert_allclose(none, draw(unconditional).x, atol=1e-5)


def test_a_classifier_of_clean_data_pulls_towards_its_label_approximately():
    """Through E[x(0) | x(t)]: the right direction; the spread comes out wrong, as is known."""
    y, noise = 1.1, 0.3

    def of_clean(x0):
        return -0.5 * (y - x0[:, 0]) ** 2 / noise

    log_prob = through_clean(unconditional, SDE, of_clean)
    guided = classifier(unconditional, SDE, log_prob, 0.5)
    result = draw(guided, steps=100)
    assert result.nfe == 2 * 100
    assert 0.6 < float(result.x.mean()) < 1.1
    # What it differentiates is the classifier at the best guess of x(0), (x alpha) for unit data.
    x, t = jnp.array([[0.7]]), 0.4
    alpha = float(SDE.marginal(t)[0])
    np.testing.assert_allclose(log_prob(x, t)[0], of_clean(alpha * x)[0], rtol=1e-4)


VALUES = jnp.stack([jnp.full(COUNT, 1.3), jnp.zeros(COUNT)], 1)
KNOWN = jnp.array([True, False])


def joint(x, t):
    """Both entries unknown: unit Gaussians of correlation 0.8."""
    alpha, std = SDE.marginal(t)
    cov = alpha**2 * jnp.array([[1, CORRELATION], [CORRELATION, 1]]) + std**2 * jnp.eye(2)
    return std * x @ jnp.linalg.inv(cov)


def mask_token(x, t):
    """Trained with clean values and their mask: the exact prediction given the known entry."""
    rest = exact_conditional_noise("clean", SDE, x[:, 1:], VALUES[:, :1], CORRELATION, t)
    return jnp.concatenate([jnp.zeros_like(rest), rest], 1)


def test_held_entries_come_back_to_the_last_bit():
    x = draw(hold(joint, SDE, VALUES, KNOWN), (2,)).x
    np.testing.assert_allclose(x[:, 0], 1.3, atol=0.1)  # up to the noise of std(t_min)
    np.testing.assert_array_equal(restore(x, VALUES, KNOWN)[:, 0], VALUES[:, 0])
    np.testing.assert_array_equal(restore(x, VALUES, KNOWN)[:, 1], x[:, 1])


def test_what_stands_in_unknown_entries_has_no_influence():
    other = np.array(VALUES)
    other[:, 1] = np.nan
    one = draw(hold(joint, SDE, VALUES, KNOWN), (2,)).x
    two = draw(hold(joint, SDE, other, KNOWN), (2,)).x
    np.testing.assert_array_equal(one, two)


def test_mask_tokens_draw_the_conditional_law_and_replacement_nearly_so():
    """Replacement knows the noisy value only; resampling mends most of what that costs."""
    exact_mean, exact_std = CORRELATION * 1.3, np.sqrt(1 - CORRELATION**2)

    def error(noise_fn, **options):
        settings = {"method": "ancestral", "grid": "quadratic", "steps": 150} | options
        x = draw(hold(noise_fn, SDE, VALUES, KNOWN), (2,), **settings).x[:, 1]
        return abs(float(x.mean()) - exact_mean) + abs(float(x.std()) - exact_std)

    replacement, resampled = error(joint), error(joint, resample=8)
    assert error(mask_token) < 0.025
    assert replacement > 0.1
    assert resampled < 0.5 * replacement
