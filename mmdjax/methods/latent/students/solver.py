"""Times and weights of a solver, learned for the score networks: no network is trained.

For n steps there are n gaps between times and n (n + 1) weights (`samplers/corrected.py`). They are
those whose draws have the best energy score, as in `energy.py`. LD3 and S4S learn to end where a
teacher's many steps do from the same noise, by squared errors; but what so few steps cannot follow
such an error turns into less spread. So few numbers cannot learn a training set by heart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from mmdjax.diffusion.samplers.corrected import corrected
from mmdjax.diffusion.samplers.loop import solve
from mmdjax.diffusion.sde import SDE, Real
from mmdjax.diffusion.time_grids import time_grid
from mmdjax.methods.latent.modules import Modules
from mmdjax.methods.latent.students.energy import of_draws
from mmdjax.methods.latent.students.round import Round
from mmdjax.runtime.compilation import shared

if TYPE_CHECKING:
    from mmdjax.methods.settings import Diffusion, Student

STEPS = 64  # of training; after those the score of the digits no longer improved
SAMPLER = "dpmpp_2m"  # what is corrected
NEEDS = (1, 2, 3, 4)


def rounds(modules: Modules, diffusion: Diffusion, options: Student) -> tuple[Round, ...]:
    """Return the one round; its parameters are those of `initial`, stacked over modalities."""
    steps = diffusion.nfe
    grid = time_grid(diffusion.grid, modules.sde, steps, **diffusion.grid_arguments())
    error = scored(modules, options.draws, options.beta)
    return (
        Round(
            f"solver_{steps}",
            f"{steps}-step solvers",
            error,
            taught=True,
            begin=lambda params: initial(modules.sde, grid, modules.score.modalities),
            steps=STEPS,
            beside=True,
        ),
    )


def initial(sde: SDE, grid: np.ndarray, modalities: int) -> dict:
    """Return 'gaps' (M, n), logarithms of the distances of times in log(alpha / std), and 'weights'
    (M, n, 1 + n), at which the solver is DPM-Solver++ 2M on the grid."""
    steps = len(grid) - 1
    with jax.ensure_compile_time_eval():
        levels = np.asarray(_levels(sde, grid))
    gaps = np.log(np.diff(levels) / (levels[-1] - levels[0]))
    return {
        "gaps": np.tile(gaps.astype(np.float32), (modalities, 1)),
        "weights": np.zeros((modalities, steps, 1 + steps), np.float32),
    }


def times_of(sde: SDE, gaps: jax.Array) -> jax.Array:
    """Return the (n + 1,) times of gaps (n,), from t_max to t_min."""
    first, last = _levels(sde, jnp.float32([sde.t_max, sde.t_min]))
    levels = first + (last - first) * jnp.cumsum(jax.nn.softmax(gaps))[:-1]
    inner = sde.time(jnp.exp(-levels))
    return jnp.concatenate([jnp.float32([sde.t_max]), inner, jnp.float32([sde.t_min])])


def _levels(sde: SDE, times: Real) -> jax.Array:
    alpha, std = sde.marginal(times)
    return jnp.log(alpha / std)


@shared
def scored(modules: Modules, draws: int, beta: float) -> Callable[..., jax.Array]:
    """Return the error of solvers, whose networks are those of a teacher, see `energy.of_draws`."""

    def ends(params, noise_fn, start):
        own, grid = params[0], times_of(modules.sde, params[0]["gaps"])
        sampler = corrected(modules.sde, noise_fn, own["weights"])
        return sampler.state(solve(sampler, start, grid, grid[1:]))

    return of_draws(modules, lambda params: params[1], ends, draws, beta, 1.0)
