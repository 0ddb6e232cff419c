"""Conditioning modes: the floor of the noisy ones, and that training and sampling agree."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdjax.diffusion import VE, VP, conditioning, sample, time_grid
from mmdjax.diffusion.exact import exact_conditional_noise

SDE, CORRELATION = VP(), 0.6


def drawn_correlation(mode, method, steps, grid="quadratic", sde=SDE, count=40_000):
    """Correlation of draws with the condition, by the exact score of what training shows."""
    keys = jax.random.split(jax.random.key(0), count)
    condition = jax.random.normal(jax.random.key(1), (count, 1))
    noise_keys = jax.vmap(lambda k: jax.random.fold_in(k, 1))(keys)
    times = time_grid(grid, sde, steps)

    @jax.jit
    def draw(keys, noise_keys, condition):
        def noise_fn(x, t):
            shown = conditioning.in_sampling(mode, sde, condition, t, noise_keys)
            return exact_conditional_noise(mode, sde, x, shown, CORRELATION, t)

        return sample(keys, (1,), noise_fn, sde, times, method).x

    x = draw(keys, noise_keys, condition)
    return np.corrcoef(x[:, 0], condition[:, 0])[0, 1], float(x.std())


@pytest.mark.parametrize(
    ("sde", "mode", "expected"),
    [
        (VP(), "clean", 0.60),
        (VP(), "independent", 0.36),
        (VP(), "shared", -0.31),
        (VE(), "clean", 0.59),
        (VE(), "independent", 0.36),
        (VE(), "shared", -0.39),  # IMDer
    ],
)
def test_only_clean_conditioning_reaches_the_true_correlation(sde, mode, expected):
    for steps in (100, 400):  # more steps do not mend it
        correlation, _ = drawn_correlation(mode, "euler_maruyama", steps, "uniform", sde)
        assert correlation == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("method", ["ddim", "heun", "dpmpp_2m", "unipc"])
def test_few_step_samplers_are_right_with_clean_conditioning_only(method):
    grid = "quadratic" if method in ("ddim", "heun") else "log_snr"
    right, std = drawn_correlation("clean", method, 40, grid)
    assert right == pytest.approx(CORRELATION, abs=0.03) and std == pytest.approx(1, abs=0.05)
    for mode in ("independent", "shared"):
        wrong, _ = drawn_correlation(mode, method, 40, grid)
        assert abs(wrong - CORRELATION) > 0.15


@pytest.mark.parametrize("mode", conditioning.MODES)
def test_training_shows_the_law_whose_exact_score_is_used(mode):
    """Regression of the target's noise on (x, shown condition) over a training batch."""
    count, time = 200_000, 0.3
    keys = jax.random.split(jax.random.key(3), 4)
    c, other, noise = (jax.random.normal(k, (count, 1)) for k in keys[:3])
    x0 = CORRELATION * c + np.sqrt(1 - CORRELATION**2) * other
    t = jnp.full(count, time)
    alpha, std = SDE.marginal(time)
    x = alpha * x0 + std * noise
    shown = conditioning.in_training(mode, SDE, c, t, noise, keys[3])
    design = np.hstack([x, shown])
    best, *_ = np.linalg.lstsq(design, np.asarray(noise), rcond=None)
    points = jnp.eye(2)
    exact = exact_conditional_noise(mode, SDE, points[:, :1], points[:, 1:], CORRELATION, time)
    np.testing.assert_allclose(best, exact, atol=0.02)


def test_sampling_shows_fresh_noise_at_every_time_and_for_every_row():
    condition = jnp.zeros((3, 2000))
    keys = jax.random.split(jax.random.key(0), 3)
    std = float(SDE.marginal(0.5)[1])
    one = conditioning.in_sampling("independent", SDE, condition, 0.5, keys)
    other = conditioning.in_sampling("independent", SDE, condition, 0.51, keys)
    np.testing.assert_allclose(one.std(1), std, rtol=0.1)
    everything = np.corrcoef(np.vstack([one, other])) - np.eye(6)
    assert np.abs(everything).max() < 0.1
    again = conditioning.in_sampling("shared", SDE, condition, jnp.full(3, 0.5), keys)
    np.testing.assert_array_equal(one, again)
    clean = conditioning.in_sampling("clean", SDE, condition, 0.5, keys)
    np.testing.assert_array_equal(clean, condition)
