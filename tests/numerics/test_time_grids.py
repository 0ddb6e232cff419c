"""Time grids: what they are even in, and what an optimised one gains on exact scores."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdjax.data.sources.synthetic import Law
from mmdjax.diffusion import EDM, VP, exact, sample, time_grid
from mmdjax.diffusion.predictions import noise_from_score
from mmdjax.diffusion.sde import REGISTRY, log_snr
from mmdjax.diffusion.time_grids import find_warp, spectrum
from mmdjax.diffusion.time_grids import log_snr as log_snr_grid
from tests.numerics import exact_laws, warps

MEAN, VARIANCE = (0.5, -0.3, 0.7), (1.0, 0.3, 0.05)


@pytest.mark.parametrize("name", REGISTRY)
def test_the_log_snr_grid_has_equal_steps_of_it(name):
    sde = REGISTRY[name]()
    with jax.enable_x64(True):
        steps = np.diff(log_snr(sde, time_grid("log_snr", sde, 12)))
    np.testing.assert_allclose(steps, steps[0], rtol=1e-6)


def test_the_karras_grid_is_their_schedule():
    """Eq. 5 for 18 steps, sigma 0.002 to 80, rho 7: EDM's time is warped by it already."""
    grid = time_grid("karras", EDM(), 17)
    ends = np.array([80.0, 0.002]) ** (1 / 7)
    with jax.enable_x64(True):
        sigma = EDM().marginal(grid)[1]
    np.testing.assert_allclose(sigma, np.linspace(*ends, 18) ** 7, rtol=2e-3)
    np.testing.assert_allclose(grid, time_grid("uniform", EDM(), 17), atol=1e-6)


@pytest.mark.parametrize("method", ["ddim", "dpmpp_2m", "unipc", "heun", "sde_dpmpp_2m"])
@pytest.mark.parametrize("sde", [VP(), EDM()])
def test_an_optimised_grid_is_better_than_every_plain_one(method, sde):
    steps = 8
    aim = {"method": method, "mean": MEAN, "variance": VARIANCE}
    grids = {name: time_grid(name, sde, steps) for name in ("uniform", "quadratic", "log_snr")}
    grids |= {"karras": time_grid("karras", sde, steps)}
    best = time_grid("optimised", sde, steps, **aim)
    assert (np.diff(best) < 0).all()
    error = exact.discretisation_error(method, sde, best, MEAN, VARIANCE)
    plain = {
        n: exact.discretisation_error(method, sde, g, MEAN, VARIANCE) for n, g in grids.items()
    }
    assert error < 0.95 * min(plain.values())


@pytest.mark.parametrize(
    ("name", "method"), [("vp", "dpmpp_2m"), ("ve", "ddim"), ("rectified_flow", "heun")]
)
def test_a_search_from_nearby_finds_the_stored_warp(name, method):
    sde, stored = warps.SDES[name], warps.stored()[name][method]
    steps, law = warps.steps(method, sde), (warps.MEAN, warps.VARIANCE)
    start = tuple(c + shift for c, shift in zip(stored, (0.3, -0.2, 0.2, -0.1), strict=True))
    found = find_warp(sde, steps, method, *law, near=start)
    errors = [
        exact.discretisation_error(method, sde, log_snr_grid(sde, steps, warp), *law)
        for warp in (found, stored, start)
    ]
    assert errors[0] < 1.02 * errors[1] and errors[0] < 0.9 * errors[2]


@pytest.mark.long
@pytest.mark.parametrize("name", warps.SDES)
def test_the_whole_search_finds_no_better_warp_than_the_stored(name):
    sde, law = warps.SDES[name], (warps.MEAN, warps.VARIANCE)
    for method, stored in warps.stored()[name].items():
        steps = warps.steps(method, sde)
        errors = [
            exact.discretisation_error(method, sde, log_snr_grid(sde, steps, warp), *law)
            for warp in (find_warp(sde, steps, method, *law), stored)
        ]
        assert errors[1] < 1.05 * errors[0] + 1e-6, method


def test_the_spectrum_of_samples_is_their_mean_and_variance_by_direction(rng):
    directions = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    variance = np.array([4.0, 2.0, 1.0, 0.5, 0.2, 0.0])
    x = (rng.standard_normal((50_000, 6)) * np.sqrt(variance)) @ directions + 1.0
    mean, found = spectrum(x.reshape(-1, 2, 3), count=5)
    np.testing.assert_allclose(found, variance[:5], rtol=0.03)
    np.testing.assert_allclose(np.abs(mean), np.abs(directions[:5].sum(1)), atol=0.05)


def test_a_grid_found_from_samples_draws_better_from_the_exact_synthetic_score():
    """Acoustics given language, a mixture; the spectrum of samples; DPM-Solver++ 2M with 6."""
    law, sde, steps = Law(0), VP(), 6
    batch = law.sample(4000, 11, "x")
    target = law.indices(["acoustic"])[[0, 1, 2, 3, 17, 34]]
    features = law.flatten(batch.features, ["acoustic"])[:, [0, 1, 2, 3, 17, 34]]
    scale = features.std()
    values = law.flatten(batch.features, ["language"])
    conditional = law.mixture.condition(target, law.indices(["language"]), values)
    conditional = type(conditional)(
        conditional.log_weight, conditional.mean / scale, conditional.cov / scale**2
    )
    mean, variance = spectrum(features / scale, count=6)
    keys = jax.random.split(jax.random.key(0), len(values))

    def noise_fn(x, t):
        return noise_from_score(sde, x, exact_laws.score(conditional, x, *sde.marginal(t)), t)

    def error(grid):
        x = np.asarray(jax.jit(lambda k: sample(k, (6,), noise_fn, sde, grid, "dpmpp_2m").x)(keys))
        exact_mean, cov = exact_laws.moments(conditional)
        left = np.cov((x - exact_mean).T) - cov.mean(0)
        return np.linalg.norm(left) / np.linalg.norm(cov.mean(0))

    aim = {"method": "dpmpp_2m", "mean": mean, "variance": variance}
    found = error(time_grid("optimised", sde, steps, **aim))
    others = [error(time_grid(name, sde, steps)) for name in ("uniform", "quadratic", "karras")]
    assert found < 0.5 * min(others)
    assert found < 0.1 and jnp.isfinite(found)
