"""10^5 draws of a mixture given a condition: every sampler, against the exact law.

Three components in (condition, x1, x2); the exact score given the condition. Draws start from
the exact law at t_max and are compared with that at t_min, so all that is left is the
sampler's own error and the sampling error of 10^5 draws.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mmdjax.data.mixture import Conditional, Mixture
from mmdjax.diffusion import EDM, VP, RectifiedFlow, sample, time_grid
from mmdjax.diffusion.predictions import noise_from_score
from mmdjax.diffusion.samplers import loop, registry

DRAWS = 100_000
SDES = {"vp": VP(), "edm": EDM(), "rectified_flow": RectifiedFlow()}
# Grid and evaluations at which the discretisation error is below the sampling error.
FIRST = ("euler_maruyama", "ddim", "ancestral", "dpmpp_1s", "predictor_corrector")
VARIANTS = [*((name, {}) for name in registry.names())]
VARIANTS += [("heun", {"churn": 1.0}), ("ddim", {"eta": 0.5}), ("ancestral", {"resample": 2})]
VARIANTS += [("predictor_corrector", {"correctors": 2})]
CASES = [
    pytest.param(sde, method, options, id=f"{sde}-{method}-{options or ''}")
    for sde in SDES
    for method, options in VARIANTS
    if registry.supports(method, SDES[sde])
]


@pytest.fixture(scope="module")
def truth():
    """Joint mixture, 10^5 conditions from it, and the conditional law of (x1, x2) at each."""
    rng = np.random.default_rng(5)
    factor = 0.45 * rng.standard_normal((3, 3, 3))
    cov = factor @ factor.transpose(0, 2, 1) + 0.02 * np.eye(3)
    mean = np.array([[1.2, 0.9, -0.6], [-0.8, 0.7, 0.9], [-0.4, -1.1, -0.5]])
    joint = Mixture(np.array([0.5, 0.3, 0.2]), mean, cov)
    everything = Conditional(
        np.tile(np.log(joint.weight), (DRAWS, 1)), np.tile(mean, (DRAWS, 1, 1)), cov
    )
    condition = everything.sample(rng)[:, :1]
    return condition, joint.condition(np.array([1, 2]), np.array([0]), condition)


def at_time(law: Conditional, sde, t) -> Conditional:
    """The law of x(t)."""
    alpha, std = (float(m) for m in sde.marginal(np.float64(t)))
    return Conditional(law.log_weight, alpha * law.mean, alpha**2 * law.cov + std**2 * np.eye(2))


def steps_of(method, options):
    if method == "adaptive":
        return 1
    return (800 if method in FIRST else 120) // registry.make(method, VP(), None, **options).nfe


def drawn(sde, method, options, law, start):
    grid = time_grid("log_snr", sde, steps_of(method, options)).astype(np.float32)

    @jax.jit
    def run(start, log_weight, mean):
        rows = Conditional(log_weight, mean, law.cov)

        def noise_fn(x, t):
            alpha, std = sde.marginal(t)
            if method == "adaptive":  # times by row
                alpha, std = alpha[:, None], std[:, None]
                score = jax.vmap(
                    lambda x, w, m, a, s: Conditional(w[None], m[None], law.cov).score(
                        x[None], a[0], s[0]
                    )[0]
                )(x, log_weight, mean, alpha, std)
                return -std * score
            return noise_from_score(sde, x, rows.score(x, alpha, std), t)

        sampler = registry.make(method, sde, noise_fn, **options)
        keys = jax.random.split(jax.random.key(1), len(grid) - 1)
        shape = (sampler.normals, *start.shape)
        carry = loop.solve(sampler, start, grid, keys, lambda k: jax.random.normal(k, shape))
        return sampler.state(carry)

    single = [jnp.asarray(a, jnp.float32) for a in (start, law.log_weight, law.mean)]
    return np.asarray(run(*single), np.float64)


def energy_distances(x, other):
    """Of projections on several directions, condition included."""
    directions = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [1, -1, 2], [-2, 1, 1]])
    return [stats.energy_distance(x @ d, other @ d) for d in directions]


def responsibilities(law: Conditional, x):
    """Mean probability of each component given the draw: the weights, if the law is right."""
    gap = x[:, None] - law.mean
    precision = np.linalg.inv(law.cov)
    log = law.log_weight - 0.5 * np.einsum("ngp,gpq,ngq->ng", gap, precision, gap)
    log -= 0.5 * np.linalg.slogdet(law.cov)[1]
    log -= log.max(1, keepdims=True)
    weight = np.exp(log)
    return (weight / weight.sum(1, keepdims=True)).mean(0)


@pytest.mark.parametrize(("name", "method", "options"), CASES)
def test_draws_follow_the_exact_conditional_law(name, method, options, truth):
    sde, (condition, law) = SDES[name], truth
    rng = np.random.default_rng(8)
    x = drawn(sde, method, options, law, at_time(law, sde, sde.t_max).sample(rng))
    exact = at_time(law, sde, sde.t_min)
    twins = [exact.sample(rng) for _ in range(2)]

    mean, cov = exact.moments()
    total = cov.mean(0) + np.cov(mean.T)
    deviation = np.sqrt(np.diag(total))
    error = 4.5 * deviation / np.sqrt(DRAWS)
    assert (np.abs((x - mean).mean(0)) < error + 0.004 * deviation).all()
    np.testing.assert_allclose(np.cov(x.T), total, atol=0.03 * deviation.max() ** 2)
    # Correlation with the condition, overall and given the components' regression.
    joint = np.hstack([condition, x])
    twin = np.hstack([condition, twins[0]])
    np.testing.assert_allclose(np.corrcoef(joint.T)[0], np.corrcoef(twin.T)[0], atol=0.015)
    slope = ((x - mean.mean(0)) * (mean - mean.mean(0))).sum(0) / np.square(
        mean - mean.mean(0)
    ).sum(0)
    np.testing.assert_allclose(slope, 1, atol=0.02)
    np.testing.assert_allclose(
        responsibilities(exact, x), np.exp(law.log_weight).mean(0), atol=0.006
    )
    null = energy_distances(twin, np.hstack([condition, twins[1]]))
    assert max(energy_distances(joint, twin)) < 3 * max(null) + 0.004


@pytest.mark.parametrize("method", registry.names())
def test_draws_from_the_prior_are_those_of_a_gaussian(method):
    """The whole of `sample`: keys, prior, scan. VP, N(0.5, 0.4^2), 10^5 draws."""
    sde, mean, std0 = VP(), 0.5, 0.4

    def noise_fn(x, t):
        alpha, std = (jnp.reshape(m, (-1, 1)) for m in sde.marginal(t))
        return std * (x - alpha * mean) / ((alpha * std0) ** 2 + std**2)

    grid = time_grid("quadratic", sde, steps_of(method, {}))
    keys = jax.random.split(jax.random.key(4), DRAWS)
    x = jax.jit(lambda keys: sample(keys, (1,), noise_fn, sde, grid, method).x)(keys)
    assert abs(float(x.mean()) - mean) < 4.5 * std0 / np.sqrt(DRAWS) + 0.006
    assert abs(float(x.std()) - std0) < 4.5 * std0 / np.sqrt(2 * DRAWS) + 0.006
    assert abs(stats.kurtosis(np.asarray(x)[:, 0])) < 0.1
