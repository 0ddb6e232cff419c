"""f and g against the marginals, and conversions against each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdjax.diffusion import sde as sdes

TIMES = np.linspace(0.02, 1.0, 7)


@pytest.mark.parametrize("name", sdes.REGISTRY)
@pytest.mark.parametrize("t", TIMES)
def test_drift_and_diffusion_follow_from_the_marginal(name, t):
    # alpha' = alpha f / x, and (std^2)' = 2 std^2 f / x + g^2 (Sarkka & Solin 2019, eq. 5.50).
    sde = sdes.REGISTRY[name]()
    alpha, std = sde.marginal(t)
    alpha_slope = jax.grad(lambda t: sde.marginal(t)[0])(t)
    variance_slope = jax.grad(lambda t: sde.marginal(t)[1] ** 2)(t)
    rate = sde.drift(jnp.ones(1), t)[0]
    np.testing.assert_allclose(alpha_slope, alpha * rate, rtol=1e-4)
    np.testing.assert_allclose(
        variance_slope, 2 * std**2 * rate + sde.diffusion(t) ** 2, rtol=1e-3, atol=1e-5
    )


def test_vp_matches_the_published_closed_form():
    sde = sdes.VP()
    t = 0.37
    alpha, std = sde.marginal(t)
    np.testing.assert_allclose(alpha, np.exp(-0.25 * t**2 * 19.9 - 0.5 * t * 0.1), rtol=1e-6)
    np.testing.assert_allclose(alpha**2 + std**2, 1, rtol=1e-6)
    np.testing.assert_allclose(sde.marginal(1.0)[1], sde.prior_std, rtol=1e-4)


def test_conversions_are_inverses(rng):
    sde = sdes.VP()
    x0, noise = rng.standard_normal((2, 5, 3, 2)).astype(np.float32)
    t = jnp.linspace(0.1, 0.9, 5)
    x = sdes.perturb(sde, x0, noise, t)
    alpha, std = (sdes.expand(a, x) for a in sde.marginal(t))
    velocity = alpha * noise - std * x0
    np.testing.assert_allclose(sdes.noise_from_velocity(sde, x, velocity, t), noise, atol=1e-5)
    np.testing.assert_allclose(sdes.clean_from_noise(sde, x, noise, t), x0, atol=1e-3)
    score = sdes.score_from_noise(sde, noise, t)
    np.testing.assert_allclose(sdes.noise_from_score(sde, score, t), noise, atol=1e-5)
