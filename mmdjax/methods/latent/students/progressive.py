"""Progressive distillation: Salimans & Ho (2022), Algorithm 2, on the grid of the config.

A student learns to do in one step of DDIM what its teacher does in several; then it is the teacher
of the next, which takes half as many, down to the evaluations that are asked for. The first one
learns 8 steps, each from two steps of Heun of the score networks: those of DDIM, however short,
lose some of the spread, which no student would bring back. What is compared is v, which guards
x(0) where alpha is small.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from mmdjax.diffusion.predictions import noise_from_clean, v_from_noise
from mmdjax.diffusion.samplers import registry
from mmdjax.diffusion.sde import SDE, expand, perturb
from mmdjax.diffusion.time_grids import time_grid
from mmdjax.methods.latent.modules import (
    Modules,
    encode_condition,
    predict_noise,
)
from mmdjax.methods.latent.students.round import Round
from mmdjax.runtime.compilation import shared

if TYPE_CHECKING:
    from mmdjax.methods.settings import Diffusion, Student

MOST = 8  # steps of the first student
INNER = 2  # steps of a teacher to one of its student
SAMPLER = "ddim"
NEEDS = (1, 2, 4, 8)


def rounds(modules: Modules, diffusion: Diffusion, options: Student) -> tuple[Round, ...]:
    """Return rounds of 8, 4, 2 and 1 steps, as far as they are asked for."""
    found, start, steps = [], "score", MOST
    while steps >= diffusion.nfe:
        arguments = diffusion.grid_arguments()
        grid = time_grid(diffusion.grid, modules.sde, steps * INNER, **arguments)
        solver = "heun" if steps == MOST else "ddim"
        error = jump(modules, modules, tuple(grid.tolist()), solver)
        found.append(Round(f"progressive_{steps}", f"{steps}-step networks", error, start, True))
        start, steps = found[-1].name, steps // 2
    return tuple(found)


@shared
def jump(
    taught: Modules,
    modules: Modules,
    grid: tuple[float, ...],
    solver: str,
    level: int = 0,
    above: int = 0,
) -> Callable[..., jax.Array]:
    """Return the error in v of one step of the student against `INNER` steps of its teacher.

    Args:
      taught: modules of the teacher. modules: of the student.
      grid: the teacher's times, of which the student has every `INNER`-th.
      solver: the teacher's sampler, deterministic and of one step.
      level, above: of the student and of its teacher, see `ScoreTransformer1D.denoise`.
    """
    sde, times = modules.sde, np.asarray(grid, np.float32)
    count = (len(times) - 1) // INNER

    def error(params, x0, mask, condition, condition_id, condition_mask, keys):
        own, teacher = params
        shown = (condition, condition_id, condition_mask)

        def noise_fn(modules, params, level):
            encoded = encode_condition(modules, params, *shown)

            def of(x, t):
                t = jnp.broadcast_to(t, x.shape[:1])
                return predict_noise(modules, params, x, t, encoded, mask, level)

            return of

        batch = len(x0)
        # Stratified, as the times of `training_times` are.
        place = jax.random.permutation(keys[1], jnp.arange(batch)) % count
        along = jnp.asarray(times)[place[:, None] * INNER + jnp.arange(INNER + 1)]
        start, end = along[:, 0], along[:, -1]
        x = perturb(sde, x0, jax.random.normal(keys[2], x0.shape), start)
        step = registry.make(solver, sde, noise_fn(taught, teacher, above)).step
        arrived = x
        for i in range(INNER):
            arrived = step(arrived, along[:, i], along[:, i + 1], None)
        arrived = jax.lax.stop_gradient(arrived)
        target = v_from_noise(sde, x, noise_of(sde, x, arrived, start, end), start)
        predicted = v_from_noise(sde, x, noise_fn(modules, own, level)(x, start), start)
        gap = jnp.where(mask[..., None], predicted - target, 0.0)
        return (gap**2).sum((1, 2)) / jnp.maximum(mask.sum(1) * x0.shape[-1], 1)

    return error


def noise_of(
    sde: SDE, x: jax.Array, arrived: jax.Array, start: jax.Array, end: jax.Array
) -> jax.Array:
    """Return the noise prediction with which DDIM goes from x at `start` to `arrived` at `end`."""
    (alpha, std), (alpha_end, std_end) = sde.marginal(start), sde.marginal(end)
    ratio = expand(std_end / std, x)
    clean = (arrived - ratio * x) / (expand(alpha_end, x) - ratio * expand(alpha, x))
    return noise_from_clean(sde, x, clean, start)
