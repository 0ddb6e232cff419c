"""Likelihood through the probability flow against closed forms, and the ODE solver itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdjax.diffusion import VP, exact
from mmdjax.diffusion import sde as sdes
from mmdjax.diffusion.likelihood import log_likelihood
from mmdjax.diffusion.ode import integrate
from mmdjax.networks.attention import attend

MEAN, VARIANCE = np.array([0.8, -0.3]), np.array([0.5, 0.1])
# Correlated: the Jacobian of the flow is not diagonal.
MIX = np.array([[1.0, 0.6], [0.2, 0.9]])


def correlated_noise(sde):
    """Exact noise prediction for N(0, MIX MIX')."""
    values, vectors = np.linalg.eigh(MIX @ MIX.T)

    def noise_fn(x, t):
        alpha, std = (m[:, None] for m in sde.marginal(t))
        return std * (x @ vectors / (alpha**2 * values + std**2)) @ vectors.T

    return noise_fn


def model_log_prob(sde, x, mean, variance):
    """The flow of a Gaussian is affine: x(t_max) = m1 + s1 / s0 (x - m0), then the prior."""
    (m0, v0), (m1, v1) = (exact.exact_law(sde, t, mean, variance) for t in (sde.t_min, sde.t_max))
    scale = np.sqrt(v1 / v0)
    end = m1 + scale * (x - m0)
    log_prior = -0.5 * (end / sde.prior_std) ** 2 - np.log(sde.prior_std * np.sqrt(2 * np.pi))
    return (log_prior + np.log(scale)).sum(-1)


@pytest.mark.parametrize("name", sdes.REGISTRY)
def test_the_likelihood_is_that_of_the_closed_form(name, rng):
    sde = sdes.REGISTRY[name]()
    with jax.enable_x64(True):
        x = jnp.asarray(MEAN + np.sqrt(VARIANCE) * rng.standard_normal((20, 2)))

        def noise_fn(x, t):
            return exact.gaussian_noise(sde, x, MEAN, VARIANCE, t[:, None])

        got = log_likelihood(x, noise_fn, sde, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(got.log_prob, model_log_prob(sde, x, MEAN, VARIANCE), atol=1e-4)
        assert int(got.nfe) > 0


def test_the_likelihood_of_vp_is_the_log_density_of_the_data(rng):
    """In float32 too. The prior's mismatch, alpha(1)^2 = 4e-5 of the data's variance, is left."""
    sde = VP()
    x = jnp.asarray(rng.standard_normal((50, 2)) @ MIX.T, jnp.float32)
    got = log_likelihood(x, correlated_noise(sde), sde).log_prob
    alpha, std = sde.marginal(sde.t_min)
    cov = alpha**2 * MIX @ MIX.T + std**2 * np.eye(2)
    inside = np.einsum("np,pq,nq->n", x, np.linalg.inv(cov), x)
    expected = -0.5 * inside - 0.5 * np.linalg.slogdet(2 * np.pi * cov)[1]
    np.testing.assert_allclose(got, expected, atol=5e-4)
    with jax.enable_x64(True):
        precise = log_likelihood(jnp.asarray(x, float), correlated_noise(sde), sde).log_prob
    values, vectors = np.linalg.eigh(MIX @ MIX.T)
    closed_form = model_log_prob(sde, np.asarray(x, float) @ vectors, np.zeros(2), values)
    np.testing.assert_allclose(precise, closed_form, atol=1e-4)
    np.testing.assert_allclose(precise, expected, atol=3e-4)


def test_hutchinson_is_unbiased_and_gets_better_with_probes(rng):
    sde = VP()
    x = jnp.tile(jnp.asarray(rng.standard_normal(2) @ MIX.T, jnp.float32), (4000, 1))
    exactly = log_likelihood(x[:1], correlated_noise(sde), sde).log_prob[0]
    keys = jax.random.split(jax.random.key(0), len(x))
    spreads = []
    for probes in (1, 4):
        arguments = (x, correlated_noise(sde), sde, "hutchinson", keys, probes, 1e-4, 1e-4)
        got = np.asarray(log_likelihood(*arguments).log_prob, np.float64)
        spreads.append(got.std())
        assert abs(got.mean() - exactly) < 4 * got.std() / np.sqrt(len(x)) + 1e-3
    assert spreads[1] == pytest.approx(spreads[0] / 2, rel=0.1)


def test_one_probe_is_exact_where_the_jacobian_is_diagonal(rng):
    sde = VP()
    x = jnp.asarray(rng.standard_normal((5, 2)), jnp.float32)

    def noise_fn(x, t):
        return exact.gaussian_noise(sde, x, MEAN, VARIANCE, t[:, None])

    keys = jax.random.split(jax.random.key(0), 5)
    one = log_likelihood(x, noise_fn, sde, "hutchinson", keys).log_prob
    np.testing.assert_allclose(one, log_likelihood(x, noise_fn, sde).log_prob, atol=1e-4)


def test_networks_with_attention_have_a_likelihood(rng):
    """Its derivative is for reverse mode only, and the divergence takes no other."""
    sde, key = sdes.REGISTRY["vp"](), jax.random.key(0)
    x = jnp.asarray(rng.standard_normal((2, 2, 1)), jnp.float32)
    mix = jnp.asarray(rng.standard_normal((1, 8)), jnp.float32)

    def noise_fn(x, t):
        heads = (x @ mix).reshape(2, 2, 2, 4).swapaxes(1, 2)
        return 0.5 * x + attend(heads, heads, heads, jnp.zeros(())).mean((1, 3))[..., None]

    exactly = log_likelihood(x, noise_fn, sde, divergence="exact").log_prob
    keys = jax.random.split(key, 2)
    nearly = log_likelihood(x, noise_fn, sde, "hutchinson", keys, probes=300).log_prob
    assert np.isfinite(exactly).all()
    np.testing.assert_allclose(nearly, exactly, atol=0.1)


def test_rows_are_solved_independently_and_at_their_own_pace():
    rates = jnp.array([1.0, 30.0, 4.0])

    def solve(rates, y):
        return integrate(lambda y, t: -rates[:, None] * y, y, 0.0, 1.0, 1e-6, 1e-6)

    whole = solve(rates, jnp.ones((3, 2)))
    np.testing.assert_allclose(whole.y[:, 0], np.exp(-rates), atol=2e-5)
    for i in range(3):
        alone = solve(rates[i : i + 1], jnp.ones((1, 2)))
        np.testing.assert_allclose(whole.y[i], alone.y[0], atol=1e-7)
        assert int(alone.evaluations) <= int(whole.evaluations)


def test_the_solver_goes_both_ways_and_tighter_tolerances_cost_and_bring_more():
    with jax.enable_x64(True):
        y = jnp.array([[2.0, 0.0], [0.0, 1.0]])

        def turn(y, t):  # a circle with a speed that changes: half a turn from 0 to 1
            speed = 2 * np.pi * t
            return speed[:, None] * jnp.stack([-y[:, 1], y[:, 0]], 1)

        errors, costs = [], []
        for tolerance in (1e-3, 1e-6, 1e-9):
            there = integrate(turn, y, 0.0, 1.0, tolerance, tolerance)
            back = integrate(turn, there.y, 1.0, 0.0, tolerance, tolerance)
            errors.append(float(jnp.abs(there.y + y).max()))
            costs.append(int(there.evaluations))
            np.testing.assert_allclose(back.y, y, atol=20 * tolerance)
        assert errors[0] > 30 * errors[1] > 900 * errors[2]
        assert costs[0] < costs[1] < costs[2]


def test_a_row_that_does_not_arrive_is_nan():
    with jax.debug_nans(False):
        got = integrate(
            lambda y, t: y * jnp.array([[1.0], [1e4]]) * jnp.cos(1e4 * t)[:, None],
            jnp.ones((2, 1)),
            0.0,
            1.0,
            1e-6,
            1e-6,
            most_steps=5,
        )
    assert np.isnan(np.asarray(got.y)[1]).all()
