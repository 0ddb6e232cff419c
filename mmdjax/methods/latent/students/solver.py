"""Times and weights of a solver, learned for the score networks: no network is trained.

For n steps there are n gaps between times and n (n + 1) weights (`samplers/corrected.py`). From the
same noise they are to end where the score networks do in `MANY` steps, for a modality's random
conditions. So few numbers cannot learn a training set by heart.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from mmdjax.diffusion.samplers import registry
from mmdjax.diffusion.samplers.corrected import corrected
from mmdjax.diffusion.samplers.loop import solve
from mmdjax.diffusion.time_grids import time_grid
from mmdjax.methods.latent.modules import Modules, encode_condition, predict_noise
from mmdjax.methods.latent.students.round import Round
from mmdjax.runtime.compilation import shared

MANY = 32
SAMPLER = "dpmpp_2m"  # what is corrected
NEEDS = (1, 2, 3, 4)


def rounds(modules: Modules, diffusion, options) -> tuple[Round, ...]:
    """Return the one round; its parameters are those of `initial`, stacked over modalities."""
    steps = diffusion.nfe
    fine, coarse = (
        time_grid(diffusion.grid, modules.sde, n, **diffusion.grid_arguments())
        for n in (MANY, steps)
    )
    error = endings(modules, tuple(fine.tolist()))
    return (
        Round(
            f"solver_{steps}",
            f"{steps}-step solvers",
            error,
            taught=True,
            begin=lambda params: initial(modules.sde, coarse, modules.score.modalities),
            beside=True,
        ),
    )


def initial(sde, grid: np.ndarray, modalities: int) -> dict:
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


def times_of(sde, gaps):
    """Return the (n + 1,) times of gaps (n,), from t_max to t_min."""
    first, last = _levels(sde, jnp.float32([sde.t_max, sde.t_min]))
    levels = first + (last - first) * jnp.cumsum(jax.nn.softmax(gaps))[:-1]
    inner = sde.time(jnp.exp(-levels))
    return jnp.concatenate([jnp.float32([sde.t_max]), inner, jnp.float32([sde.t_min])])


def _levels(sde, times):
    alpha, std = sde.marginal(times)
    return jnp.log(alpha / std)


@shared
def endings(modules: Modules, fine):
    """Return the error of `losses.given_others`: mean square between where both solvers end.

    Args:
      fine: the times of the teacher.
    """
    sde = modules.sde

    def error(params, x0, mask, condition, condition_id, condition_mask, keys):
        own, teacher = params
        encoded = encode_condition(modules, teacher, condition, condition_id, condition_mask)

        def noise_fn(x, t):
            t = jnp.broadcast_to(t, x.shape[:1])
            return predict_noise(modules, teacher, x, t, encoded, mask)

        start = sde.prior_std * jax.random.normal(keys[1], x0.shape)

        def ends(sampler, grid):
            return sampler.state(solve(sampler, start, grid, grid[1:]))

        target = ends(registry.make(SAMPLER, sde, noise_fn), jnp.float32(fine))
        target = jax.lax.stop_gradient(target)
        ended = ends(corrected(sde, noise_fn, own["weights"]), times_of(sde, own["gaps"]))
        gap = jnp.where(mask[..., None], ended - target, 0.0)
        return (gap**2).sum((1, 2)) / jnp.maximum(mask.sum(1) * x0.shape[-1], 1)

    return error
