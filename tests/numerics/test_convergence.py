"""Orders of convergence, from the samplers' own declarations, and the table that pytest prints.

Mean and variance of Gaussian data are propagated through the compiled steps (`diffusion/exact.py`),
in float64 and without sampling noise, so a wrong law of any sampler on any SDE would show as a
slope.
"""

import jax
import numpy as np
import pytest

from mmdjax.diffusion import exact, sample, time_grid
from mmdjax.diffusion.samplers import registry
from mmdjax.diffusion.time_grids import REGISTRY as GRIDS
from mmdjax.diffusion.time_grids import log_snr
from tests.numerics import warps
from tests.numerics.warps import MEAN, SDES, VARIANCE

# Each with the options whose order is another, or comes about in another way.
VARIANTS = [
    ("adams_bashforth", {}),
    ("adams_bashforth", {"order": 2}),
    ("adams_bashforth", {"order": 4}),
    ("ancestral", {}),
    ("ancestral", {"resample": 3}),
    ("ddim", {}),
    ("ddim", {"eta": 0.5}),
    ("deis", {}),
    ("deis", {"order": 2}),
    ("dpmpp_1s", {}),
    ("dpmpp_2m", {}),
    ("dpmpp_3m", {}),
    ("euler_maruyama", {}),
    ("heun", {}),
    ("heun", {"churn": 1.0}),
    ("heun_sde", {}),
    # A large signal-to-noise ratio: the step is the predictor's, which vanishes with the grid's.
    ("predictor_corrector", {"snr": 0.5}),
    ("predictor_corrector", {"snr": 0.5, "correctors": 2}),
    ("sde_dpmpp_2m", {}),
    ("unipc", {}),
    ("unipc", {"order": 2}),
]
NFE = (10, 30, 100)
CASES = [
    pytest.param(name, method, options, id=f"{name}-{method}-{options or ''}")
    for name, sde in SDES.items()
    for method, options in VARIANTS
    if registry.supports(method, sde)
]


def interior(sde):
    """Equal steps in log(alpha / std), the first twenty growing from 1/256 of one.

    Multistep methods start with lower orders; on this grid what that costs is out of sight.
    """

    def grid(steps: int):
        lengths = np.minimum(1.32 ** np.arange(-20, steps - 20), 1.0)
        s = np.concatenate([[0.0], np.cumsum(lengths)])
        with jax.enable_x64(True):
            return np.asarray(sde.time(np.exp(2 - 4 * s / s[-1])))

    return grid


def test_every_sampler_but_the_adaptive_one_has_its_order_tested():
    assert {method for method, _ in VARIANTS} == set(registry.names()) - {"adaptive"}


@pytest.mark.parametrize(("name", "method", "options"), CASES)
def test_the_law_converges_with_the_declared_order(name, method, options):
    sde = SDES[name]
    order = registry.make(method, sde, None, **options).order
    measured = exact.slope(method, sde, interior(sde), MEAN, VARIANCE, **options)
    # The first steps are of the grid's number, but not of its length.
    assert measured == pytest.approx(order, abs=0.1 + 0.04 * order)


@pytest.mark.parametrize("name", SDES)
def test_table_of_slopes_and_errors(name, accuracy_table):
    """Not only inside: from t_max to t_min on every grid the error falls to the floor; and a warp
    that was found for it is better than none."""
    sde, found, lines = SDES[name], warps.stored()[name], []
    data = (MEAN, VARIANCE)
    prior = exact.exact_law(sde, sde.t_max, *(np.array(a) for a in data))
    missing = exact.wasserstein(prior, (np.zeros(3), np.full(3, sde.prior_std**2)))
    floor = missing / sde.prior_std + 3 * float(sde.marginal(sde.t_min)[1])
    assert list(found) == warps.samplers(sde)
    for method, warp in found.items():
        each = registry.make(method, sde, None).nfe
        plain, better = (log_snr(sde, 10 // each, w) for w in ((), warp))
        gained = [exact.discretisation_error(method, sde, g, *data) for g in (better, plain)]
        assert gained[0] < gained[1], method
        cells = []
        for grid in GRIDS:

            def times(steps, grid=grid, warp=warp):
                if grid == "optimised":  # for 10 evaluations, then refined
                    return log_snr(sde, steps, warp)
                return time_grid(grid, sde, steps)

            slope = exact.slope(method, sde, times, *data)
            errors = [exact.relative_error(method, sde, times(n // each), *data) for n in NFE]
            limit = exact.relative_error(method, sde, times(2000), *data)
            assert limit < floor + 0.01, (method, grid)
            cells.append(f"{slope:5.2f} " + " ".join(f"{min(e, 99):7.4f}" for e in errors))
        lines.append(f"{method:20s}" + " |".join(cells))
    accuracy_table[name] = lines


@pytest.mark.parametrize("rho", [0.17, 0.8])
def test_a_matched_prior_takes_away_what_ve_leaves_of_its_own(rho):
    """Correlated unit Gaussians: the weight of the condition and the spread of draws given it, by
    so many steps that the prior is all that is wrong."""
    sde, found = SDES["ve"], {}
    grid, keys = time_grid("log_snr", sde, 200), jax.random.split(jax.random.key(0), 20_000)
    for prior in ("zero", "matched"):

        def drawn(condition, prior=prior):
            def noise_fn(x, t):
                return exact.exact_conditional_noise("clean", sde, x, condition, rho, t)

            return sample(keys, (1,), noise_fn, sde, grid, "dpmpp_2m", prior=prior)

        base, moved = drawn(0.0), drawn(1.0)
        assert base.nfe == 200 + (prior == "matched")
        # The solution is affine: what noise does cancels in the difference.
        found[prior] = float((moved.x - base.x).mean()), float(base.x.std())
    off = {p: abs(np.array(v) / (rho, (1 - rho**2) ** 0.5) - 1) for p, v in found.items()}
    assert off["zero"][0] > 0.02 and off["matched"][0] < off["zero"][0] / 10
    assert off["matched"][1] < 0.015
