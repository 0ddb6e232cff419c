"""Beyond the final law: strong convergence of paths; what the Langevin corrector leaves alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdjax.diffusion import VP, exact, time_grid
from mmdjax.diffusion.predictions import noise_from_score
from mmdjax.diffusion.samplers import loop, registry
from mmdjax.diffusion.samplers.predictor_corrector import langevin_step

SDE = VP()
STRONG = [name for name in registry.names() if registry.make(name, SDE, None).strong]


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def mixture_noise(x, t):
    """N(-1, 0.2) and N(0.8, 0.1), weights 0.4 and 0.6: a score that is not linear."""
    alpha, std = SDE.marginal(t)
    means, variances = alpha * jnp.array([-1.0, 0.8]), alpha**2 * jnp.array([0.2, 0.1]) + std**2
    gap = x[..., None] - means
    log = jnp.log(jnp.array([0.4, 0.6])) - gap**2 / variances / 2 - jnp.log(variances) / 2
    return std * (jax.nn.softmax(log, -1) * gap / variances).sum(-1)


def test_some_samplers_claim_strong_convergence():
    assert STRONG == ["euler_maruyama", "heun_sde"]


@pytest.mark.parametrize("method", STRONG)
def test_paths_converge_on_shared_brownian_increments(method):
    """E |x - x_fine| on one Brownian path each, 4096 steps against 64, 128, 256, 512."""
    paths, fine, start, end = 2000, 4096, 0.8, 0.1
    rng = np.random.default_rng(2)
    increments = np.sqrt((start - end) / fine) * rng.standard_normal((fine, paths))
    first = rng.standard_normal(paths)
    sampler = registry.make(method, SDE, mixture_noise)

    def end_points(steps):
        joined = increments.reshape(steps, fine // steps, paths).sum(1)
        # A step's normal is its increment over the root of its length.
        z = joined[:, None] / np.sqrt((start - end) / steps)
        grid = jnp.asarray(np.linspace(start, end, steps + 1))
        return jax.jit(lambda z: loop.solve(sampler, jnp.asarray(first), grid, z))(z)

    reference = end_points(fine)
    errors = [float(jnp.abs(end_points(n) - reference).mean()) for n in (64, 128, 256, 512)]
    slopes = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    assert slopes.mean() == pytest.approx(sampler.strong, abs=0.15)
    # Another path is far away: it is the increments that are shared.
    assert errors[-1] < 0.02 < float(jnp.abs(end_points(64) - reference[::-1]).mean())


def test_the_corrector_alone_leaves_the_exact_law_invariant_as_its_step_goes_to_zero():
    """Gaussian: the stationary variance of Langevin steps is v / (1 - epsilon / 2v), to first order
    off by epsilon / 2; found here by iterating the code's own step on the variance."""
    mean, variance, t = 0.8, 0.3, 0.4
    alpha, std = SDE.marginal(t)
    exact_variance = float(alpha**2 * variance + std**2)

    def noise_fn(x, t):
        return exact.gaussian_noise(SDE, x, mean, variance, t)

    biases = []
    for epsilon in (0.08, 0.04, 0.02, 0.01):

        def step(x, z, epsilon=epsilon):
            return langevin_step(SDE, noise_fn, x, t, z, epsilon)

        by_x = float(jax.grad(step)(0.0, 0.0))
        by_z = float(jax.grad(step, 1)(0.0, 0.0))
        np.testing.assert_allclose(step(alpha * mean, 0.0), alpha * mean)  # the mean stays
        biases.append(by_z**2 / (1 - by_x**2) - exact_variance)
    np.testing.assert_allclose(biases, np.array([0.08, 0.04, 0.02, 0.01]) / 2, rtol=0.1)


def test_the_corrector_keeps_the_weights_of_a_mixture():
    """10^5 exact draws, 200 small Langevin steps: weights and moments stay as they were."""
    count, t = 100_000, 0.15
    alpha, std = (float(m) for m in SDE.marginal(t))
    rng = np.random.default_rng(0)
    left = rng.random(count) < 0.4
    x0 = np.where(left, -1 + np.sqrt(0.2) * rng.standard_normal(count), 0.8)
    x0 = x0 + np.where(left, 0, np.sqrt(0.1)) * rng.standard_normal(count)
    x = alpha * x0 + std * rng.standard_normal(count)

    @jax.jit
    def corrected(x, key):
        def step(x, key):
            z = jax.random.normal(key, x.shape)
            return langevin_step(SDE, mixture_noise, x, t, z, 0.002), None

        return jax.lax.scan(step, x, jax.random.split(key, 200))[0]

    after = np.asarray(corrected(x, jax.random.key(0)))
    assert np.corrcoef(x, after)[0, 1] < 0.8  # it moved
    assert abs(after.mean() - x.mean()) < 0.015
    assert after.var() == pytest.approx(x.var(), rel=0.02)
    assert (after < 0).mean() == pytest.approx((x < 0).mean(), abs=0.008)


def test_a_step_that_depends_on_the_draw_would_not_leave_the_law_invariant():
    """Why epsilon is not 2 (r |z| / |score|)^2 of the very draw: its law is another one."""
    rng = np.random.default_rng(1)
    x, snr = rng.standard_normal(100_000), 0.16
    score = lambda x: -x  # noqa: E731
    for _ in range(300):
        z = rng.standard_normal(len(x))
        epsilon = 2 * (snr * np.abs(z) / np.maximum(np.abs(score(x)), 1e-3)) ** 2
        x = x + epsilon * score(x) + np.sqrt(2 * epsilon) * z
    kept = rng.standard_normal(100_000)
    for _ in range(300):
        kept = kept - 2 * snr**2 * kept + np.sqrt(4 * snr**2) * rng.standard_normal(len(kept))
    assert abs(np.median(np.abs(kept)) - 0.674) < 0.03 < abs(np.median(np.abs(x)) - 0.674)


def test_ancestral_sampling_is_ddim_with_eta_one():
    grid = jnp.asarray(time_grid("quadratic", SDE, 7))
    z = jax.random.normal(jax.random.key(0), (7, 1, 50))
    x = jax.random.normal(jax.random.key(1), (50,))
    one = loop.solve(registry.make("ancestral", SDE, mixture_noise), x, grid, z)
    other = loop.solve(registry.make("ddim", SDE, mixture_noise, eta=1.0), x, grid, z)
    np.testing.assert_allclose(one, other, atol=1e-10)


def test_first_order_dpm_solver_is_ddim():
    grid = jnp.asarray(time_grid("log_snr", SDE, 7))
    x, z = jnp.linspace(-2, 2, 50), jnp.zeros((7, 0, 50))
    one = loop.solve(registry.make("dpmpp_1s", SDE, mixture_noise), x, grid, z)
    other = loop.solve(registry.make("ddim", SDE, mixture_noise), x, grid, z)
    np.testing.assert_allclose(one, other, atol=1e-10)


def test_noise_from_score_is_what_the_mixture_says():
    def log_density(x, t):
        alpha, std = SDE.marginal(t)
        variances = alpha**2 * jnp.array([0.2, 0.1]) + std**2
        gap = x - alpha * jnp.array([-1.0, 0.8])
        log = jnp.log(jnp.array([0.4, 0.6])) - gap**2 / variances / 2 - jnp.log(variances) / 2
        return jax.nn.logsumexp(log)

    for x, t in ((-0.7, 0.1), (0.3, 0.4), (1.0, 0.9)):
        expected = noise_from_score(SDE, x, jax.grad(log_density)(x, t), t)
        np.testing.assert_allclose(mixture_noise(jnp.asarray(x), t), expected, rtol=1e-9)
