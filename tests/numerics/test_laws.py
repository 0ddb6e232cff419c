"""10^5 draws of a mixture given a condition: every sampler, against the exact law.

Three components in (condition, x1, x2); the exact score given the condition. Draws start from
the exact law at t_max and are compared with that at t_min, so all that is left is the
sampler's own error and the sampling error of 10^5 draws.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mmdjax.data.sources.mixture import Conditional, Mixture
from mmdjax.diffusion import EDM, VP, RectifiedFlow, sample, time_grid
from mmdjax.diffusion.samplers import loop, registry
from tests.numerics import exact_laws

DRAWS = 100_000
SDES = {"vp": VP(), "edm": EDM(), "rectified_flow": RectifiedFlow()}
# Grid and evaluations at which the discretisation error is below the sampling error.
FIRST = ("euler_maruyama", "ddim", "ancestral", "dpmpp_1s", "predictor_corrector")
VARIANTS = [*((name, {}) for name in registry.names())]
VARIANTS += [("heun", {"churn": 1.0}), ("ddim", {"eta": 0.5})]
# All on VP; on the two others, whose orders are proven exactly as well, some of every kind.
OTHERS = {
    "edm": ("euler_maruyama", "heun_sde", "predictor_corrector", "sde_dpmpp_2m", "dpmpp_3m"),
    "rectified_flow": ("heun", "ancestral", "unipc", "adams_bashforth", "adaptive"),
}
CASES = [
    pytest.param(sde, method, options, id=f"{sde}-{method}-{options or ''}")
    for sde in SDES
    for method, options in VARIANTS
    if sde == "vp" or (method in OTHERS[sde] and not options)
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
    return (300 if method in FIRST else 120) // registry.make(method, VP(), None, **options).nfe


def exact_noise_fn(sde, law):
    """Noise prediction for `law` on states (2, N): rows last, so that it is fast; written apart
    from `exact_laws.score` and checked against it below."""
    log_weight, mean = law.log_weight.T, np.moveaxis(law.mean, 0, -1)  # (G, N), (G, 2, N)
    log_weight, mean = jnp.asarray(log_weight, jnp.float32), jnp.asarray(mean, jnp.float32)

    def noise_fn(x, t):
        alpha, std = sde.marginal(t)
        logs, pulls = [], []
        for g, ((a, b), (_, d)) in enumerate(law.cov):
            a, b, d = alpha**2 * a + std**2, alpha**2 * b, alpha**2 * d + std**2
            determinant = a * d - b**2
            gap = x - alpha * mean[g]
            pull = jnp.stack([d * gap[0] - b * gap[1], a * gap[1] - b * gap[0]]) / determinant
            pulls.append(pull)
            logs.append(log_weight[g] - 0.5 * (gap * pull).sum(0) - 0.5 * jnp.log(determinant))
        weight = jax.nn.softmax(jnp.stack(logs), 0)
        return std * sum(w * pull for w, pull in zip(weight, pulls, strict=True))

    return noise_fn


def drawn(sde, method, options, law, start):
    """Draws (N, 2). The solver's state is (2, N), but for 'adaptive', whose rows come first."""
    grid_name = "log_snr" if isinstance(sde, EDM) else "quadratic"
    grid = time_grid(grid_name, sde, steps_of(method, options)).astype(np.float32)
    exact = exact_noise_fn(sde, law)
    rows_first = method == "adaptive"

    def noise_fn(x, t):
        return exact(x.T, t).T if rows_first else exact(x, t)

    @jax.jit
    def run(start):
        sampler = registry.make(method, sde, noise_fn, **options)
        keys = jax.random.split(jax.random.key(1), len(grid) - 1)
        shape = (sampler.normals, *start.shape)
        carry = loop.solve(sampler, start, grid, keys, lambda k: jax.random.normal(k, shape))
        return sampler.state(carry)

    x = run(jnp.asarray(start if rows_first else start.T, jnp.float32))
    return np.asarray(x if rows_first else x.T, np.float64)


def test_the_exact_score_is_that_of_the_closed_form(truth):
    law = truth[1]
    few = Conditional(law.log_weight[:50], law.mean[:50], law.cov)
    x, sde = np.random.default_rng(0).standard_normal((50, 2)), VP()
    alpha, std = sde.marginal(0.3)
    np.testing.assert_allclose(
        exact_noise_fn(sde, few)(jnp.asarray(x.T), 0.3).T,
        -std * exact_laws.score(few, x, alpha, std),
        rtol=1e-3,
        atol=1e-4,
    )


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


class Reference(NamedTuple):
    """What draws on one SDE start from, and what they are compared with."""

    start: np.ndarray
    exact: Conditional
    mean: np.ndarray
    total: np.ndarray  # covariance
    weights: np.ndarray  # of the components
    twin: np.ndarray  # the condition beside exact draws
    null: float  # energy distance of two such


@pytest.fixture(scope="module")
def reference(truth):
    @functools.cache
    def of(name: str) -> Reference:
        sde, (condition, law), rng = SDES[name], truth, np.random.default_rng(8)
        start = at_time(law, sde, sde.t_max).sample(rng)
        exact = at_time(law, sde, sde.t_min)
        twin, other = (np.hstack([condition, exact.sample(rng)]) for _ in range(2))
        mean, cov = exact_laws.moments(exact)
        weights = np.exp(law.log_weight).mean(0)
        null = max(energy_distances(twin, other))
        return Reference(start, exact, mean, cov.mean(0) + np.cov(mean.T), weights, twin, null)

    return of


@pytest.mark.parametrize(("name", "method", "options"), CASES)
def test_draws_follow_the_exact_conditional_law(name, method, options, truth, reference):
    (condition, law), aim = truth, reference(name)
    x, mean, total = drawn(SDES[name], method, options, law, aim.start), aim.mean, aim.total
    deviation = np.sqrt(np.diag(total))
    error = 4.5 * deviation / np.sqrt(DRAWS)
    assert (np.abs((x - mean).mean(0)) < error + 0.006 * deviation).all()
    np.testing.assert_allclose(np.cov(x.T), total, atol=0.03 * deviation.max() ** 2)
    # Correlation with the condition, overall and given the components' regression.
    joint = np.hstack([condition, x])
    np.testing.assert_allclose(np.corrcoef(joint.T)[0], np.corrcoef(aim.twin.T)[0], atol=0.015)
    centred = mean - mean.mean(0)
    slope = ((x - mean.mean(0)) * centred).sum(0) / np.square(centred).sum(0)
    np.testing.assert_allclose(slope, 1, atol=0.02)
    np.testing.assert_allclose(responsibilities(aim.exact, x), aim.weights, atol=0.006)
    assert max(energy_distances(joint, aim.twin)) < 3 * aim.null + 0.004


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
