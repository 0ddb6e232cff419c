"""Samplers against exact laws: moments, correlation with the condition, convergence slope."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdjax.data import mixture
from mmdjax.data.synthetic import Law
from mmdjax.diffusion import VP, sample, time_grid
from mmdjax.diffusion.samplers import registry
from mmdjax.diffusion.sde import noise_from_score

SDE = VP()
# Steps at which a sampler's draws are within the tolerance below of the exact law.
STEPS = {"ddim": 400, "euler_maruyama": 400}
# Theoretical order of the global error in the largest step: ODE for ddim, weak for Euler-Maruyama.
ORDER = {"ddim": 1, "euler_maruyama": 1}
# Variance of the noise that a step from t to t_next adds, for the stochastic samplers.
NOISE = {"euler_maruyama": lambda t, t_next: (t - t_next) * SDE.diffusion(t) ** 2}


def exact_noise_fn(law: mixture.Conditional):
    def noise_fn(x, t):
        alpha, std = SDE.marginal(t)
        flat = x.reshape(len(x), -1)
        return noise_from_score(SDE, law.score(flat, alpha, std), t).reshape(x.shape)

    return noise_fn


def test_every_sampler_has_an_order_and_a_law_test():
    assert set(registry.names()) == set(STEPS) == set(ORDER)


@pytest.mark.parametrize("method", STEPS)
def test_draws_have_the_exact_conditional_law(method):
    """Acoustics given language: mean, covariance and correlation with the condition."""
    law = Law(0)
    batch = law.sample(8000, 11, "x")
    # Fewer channels and frames of the acoustic modality keep the test within seconds.
    target = law.indices(["acoustic"])[[0, 1, 2, 3, 17, 34]]
    given = law.indices(["language"])
    values = law.flatten(batch.features, ["language"])
    exact = law.mixture.condition(target, given, values)
    keys = jax.random.split(jax.random.key(0), len(values))
    grid = time_grid("quadratic", SDE, STEPS[method])
    draw = jax.jit(lambda k: sample(k, (6,), exact_noise_fn(exact), SDE, grid, method).x)
    drawn = np.asarray(draw(keys), np.float64)

    mean, cov = exact.moments()
    total = cov.mean(0) + np.cov(mean.T)
    error = np.sqrt(np.diag(total) / len(drawn))
    # Sampling error (4 standard errors) and 1 % of a deviation for the discretisation.
    deviation = np.sqrt(np.diag(total))
    assert (np.abs(drawn.mean(0) - mean.mean(0)) < 4 * error + 0.01 * deviation).all()
    np.testing.assert_allclose(np.cov(drawn.T), total, atol=0.05 * deviation.max() ** 2)
    # E[x | condition] is the regression of the draws on it: slope 1, unexplained part as exact.
    explained = np.sum((drawn - drawn.mean(0)) * (mean - mean.mean(0)), 0)
    slope = explained / np.sum((mean - mean.mean(0)) ** 2, 0)
    np.testing.assert_allclose(slope, 1, atol=0.05)
    np.testing.assert_allclose(
        np.cov((drawn - mean).T), cov.mean(0), atol=0.05 * deviation.max() ** 2
    )
    # Given the condition, the draw knows the condition's components as the truth does.
    first = values[:, 0]
    truth = law.flatten(batch.features, ["acoustic"])[:, 0]
    assert abs(np.corrcoef(drawn[:, 0], first)[0, 1] - np.corrcoef(truth, first)[0, 1]) < 0.04


@pytest.mark.parametrize("method", ORDER)
def test_error_falls_with_the_theoretical_order(method):
    """One-dimensional Gaussian target: the sampler's own mean and std against the exact ones.

    Both are propagated through the linear steps exactly, so no sampling error blurs the slope.
    """
    target_mean, target_std = 0.8, 0.5

    def noise_fn(x, t):
        alpha, std = SDE.marginal(t)
        variance = alpha**2 * target_std**2 + std**2
        return std * (x - alpha * target_mean) / variance

    keys = jax.random.split(jax.random.key(0), 1)

    def error(steps):
        grid = np.linspace(0.7, 0.2, steps + 1)
        sampler = registry.make(method, SDE, noise_fn)
        alpha, std = SDE.marginal(grid[0])
        mean, variance = alpha * target_mean, alpha**2 * target_std**2 + std**2
        for t, t_next in itertools.pairwise(grid):

            def step(x, t=t, t_next=t_next):
                carry = sampler.init(jnp.asarray([x]), keys)
                return sampler.state(sampler.step(carry, t, t_next, keys))[0]

            # A step is x -> a x + b + c z: a by differentiation, c from the table, z from its key.
            c2 = NOISE[method](t, t_next) if method in NOISE else 0.0
            slope = jax.grad(step)(jnp.asarray(0.0))
            shift = step(jnp.asarray(0.0)) - jnp.sqrt(c2) * jax.random.normal(keys[0], ())
            mean, variance = slope * mean + shift, slope**2 * variance + c2
        alpha, std = SDE.marginal(grid[-1])
        exact = alpha**2 * target_std**2 + std**2
        return abs(mean - alpha * target_mean) + abs(jnp.sqrt(variance) - jnp.sqrt(exact))

    with jax.enable_x64(True):
        errors = [float(error(steps)) for steps in (16, 32, 64)]
    slopes = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    np.testing.assert_allclose(slopes, ORDER[method], atol=0.2)
