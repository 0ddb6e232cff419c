"""f and g against the marginals, inverse times, the prior, and conversions against each other."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdjax.diffusion import predictions
from mmdjax.diffusion import sde as sdes

EVERY = pytest.mark.parametrize(
    "sde", [kind() for kind in sdes.REGISTRY.values()], ids=sdes.name_of
)


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def times(sde):
    return np.linspace(sde.t_min, sde.t_max, 9)


@EVERY
def test_drift_and_diffusion_follow_from_the_marginal(sde):
    # alpha' = alpha f / x, and (std^2)' = 2 std^2 f / x + g^2 (Sarkka & Solin 2019, eq. 5.50).
    for t in times(sde):
        alpha, std = sde.marginal(t)
        alpha_slope = jax.grad(lambda t: sde.marginal(t)[0])(t)
        variance_slope = jax.grad(lambda t: sde.marginal(t)[1] ** 2)(t)
        rate = sde.drift(jnp.ones(1), t)[0]
        np.testing.assert_allclose(alpha_slope, alpha * rate, rtol=1e-9, atol=1e-12)
        expected = 2 * std**2 * rate + sde.diffusion(t) ** 2
        np.testing.assert_allclose(variance_slope, expected, rtol=1e-8, atol=1e-12)


@EVERY
def test_the_marginal_law_is_reached_by_stepping_drift_and_diffusion(sde):
    """dm/dt = f m and dP/dt = 2 f P + g^2, integrated by Runge-Kutta from t_min to t_max."""

    def slope(t, moments):
        rate = float(sde.drift(jnp.ones(1), t)[0])
        return np.array([rate * moments[0], 2 * rate * moments[1] + float(sde.diffusion(t)) ** 2])

    alpha, std = (float(m) for m in sde.marginal(sde.t_min))
    moments = np.array([alpha, std**2])
    # Substeps are denser at both ends, where f or g of some are steep.
    s = 0.5 * (1 - np.cos(np.linspace(0, np.pi, 301)))
    grid = sde.t_min + (sde.t_max - sde.t_min) * s
    for t, after in itertools.pairwise(grid):
        h = after - t
        k1 = slope(t, moments)
        k2 = slope(t + h / 2, moments + h / 2 * k1)
        k3 = slope(t + h / 2, moments + h / 2 * k2)
        k4 = slope(after, moments + h * k3)
        moments = moments + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    alpha, std = sde.marginal(sde.t_max)
    np.testing.assert_allclose(moments, [alpha, std**2], rtol=1e-5, atol=1e-7)


@EVERY
def test_the_prior_is_the_law_at_t_max_up_to_what_is_left_of_the_data(sde):
    """KL divergence of x(t_max), for data from N(0.5, 1), to the prior N(0, prior_std^2)."""
    alpha, std = sde.marginal(sde.t_max)
    variance, prior = alpha**2 + std**2, sde.prior_std**2
    kl = 0.5 * (variance / prior + (alpha * 0.5) ** 2 / prior - 1 - np.log(variance / prior))
    np.testing.assert_allclose(std, sde.prior_std, rtol=1e-4)
    # VE of IMDer ends at std 9.85, where a hundredth of the variance is still data.
    assert kl < (2e-3 if isinstance(sde, sdes.VE) else 1e-4)


@EVERY
def test_time_is_the_inverse_of_std_over_alpha(sde):
    alpha, std = sde.marginal(times(sde))
    np.testing.assert_allclose(sde.time(std / alpha), times(sde), rtol=1e-6, atol=1e-10)
    assert (np.diff(std / alpha) > 0).all()


@EVERY
def test_a_transition_composes_with_the_marginal(sde):
    s, t = times(sde)[3], times(sde)[6]
    (alpha_s, std_s), (alpha_t, std_t) = sde.marginal(s), sde.marginal(t)
    scale, std = sdes.transition(sde, s, t)
    np.testing.assert_allclose(scale * alpha_s, alpha_t)
    np.testing.assert_allclose((scale * std_s) ** 2 + std**2, std_t**2)


@EVERY
def test_conversions_are_inverses_and_give_the_true_targets(sde, rng):
    x0, noise = rng.standard_normal((2, 9, 3, 2))
    t = jnp.asarray(times(sde))
    x = sdes.perturb(sde, x0, noise, t)
    alpha, std = (sdes.expand(a, x) for a in sde.marginal(t))
    c = jnp.sqrt(alpha**2 + std**2)
    # alpha' and std' by differentiation, not from f and g as in the code.
    slopes = [jax.vmap(jax.grad(lambda t, i=i: sde.marginal(t)[i]))(t) for i in (0, 1)]
    alpha_slope, std_slope = (sdes.expand(a, x) for a in slopes)
    truth = {
        "noise": noise,
        "score": -noise / std,
        "clean": x0,
        "v": (alpha * noise - std * x0) / c,
        "velocity": alpha_slope * x0 + std_slope * noise,
    }
    assert set(truth) == set(predictions.TO_NOISE) == set(predictions.FROM_NOISE)
    for source, target in itertools.product(truth, truth):
        got = predictions.convert(sde, x, truth[source], t, source, target)
        np.testing.assert_allclose(got, truth[target], rtol=1e-6, atol=1e-6)


def test_the_published_closed_forms():
    t = 0.37
    alpha, std = sdes.VP().marginal(t)
    np.testing.assert_allclose(alpha, np.exp(-0.25 * t**2 * 19.9 - 0.5 * t * 0.1))
    np.testing.assert_allclose(std**2, 1 - alpha**2)
    np.testing.assert_allclose(sdes.SubVP().marginal(t)[1], 1 - alpha**2)
    np.testing.assert_allclose(sdes.VE().marginal(t)[1] ** 2, (25 ** (2 * t) - 1) / 2 / np.log(25))
    np.testing.assert_allclose(sdes.VE().prior_std, 9.85, atol=0.01)
    np.testing.assert_allclose(sdes.VEGeometric().marginal(t)[1], 0.01 * 5000**t)
    np.testing.assert_allclose(sdes.RectifiedFlow().marginal(t), (1 - t, t))
    cosine = np.cos((t + 0.008) / 1.008 * np.pi / 2) / np.cos(0.008 / 1.008 * np.pi / 2)
    alpha, std = sdes.VPCosine().marginal(t)
    np.testing.assert_allclose([alpha, std**2], [cosine, 1 - cosine**2])
    ends = np.array([0.002, 80.0]) ** (1 / 7)
    np.testing.assert_allclose(sdes.EDM().marginal(t)[1], (ends[0] + t * np.diff(ends)[0]) ** 7)


def test_reverse_drift_and_probability_flow_keep_the_law():
    """Fokker-Planck for a Gaussian: both move mean and variance as the marginals do."""
    sde, mean, variance, t = sdes.SubVP(), 0.7, 0.3, 0.4

    def moments(t):
        alpha, std = sde.marginal(t)
        return jnp.stack([alpha * mean, alpha**2 * variance + std**2])

    now, slope = moments(t), jax.jacfwd(moments)(t)

    def field(kind, x):
        return kind(sde, x, -(x - now[0]) / now[1], t)

    for kind, kept in ((sdes.probability_flow, 0.0), (sdes.reverse_drift, -1.0)):
        # x' = a x + b, with kept g^2 of noise (backwards in time it comes with the other sign).
        rate = field(kind, jnp.ones(1))[0] - field(kind, jnp.zeros(1))[0]
        at_mean = field(kind, now[:1])[0]
        np.testing.assert_allclose(at_mean, slope[0])
        noise = kept * sde.diffusion(t) ** 2
        np.testing.assert_allclose(2 * rate * now[1] + noise, slope[1])
