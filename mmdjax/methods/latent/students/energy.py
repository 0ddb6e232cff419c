"""Few evaluations by the energy score: after De Bortoli et al. (2025), "Distributional diffusion".

The network maps noise to a draw, in one step of DDIM from t_max or in several, through all of which
it learns. M draws of a row, which share its encoded condition, are scored against the truth
(`diffusion.energy`). The score is proper, so that no teacher is needed; the score networks are
where it starts. At t_max their output is the conditional mean, whatever the noise: the spread is
what is learned here.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from mmdjax.diffusion.energy import energy_score
from mmdjax.diffusion.samplers import registry
from mmdjax.diffusion.time_grids import time_grid
from mmdjax.methods.latent.modules import (
    Modules,
    encode_condition,
    predict_noise,
)
from mmdjax.methods.latent.students.round import Round
from mmdjax.runtime.compilation import shared
from mmdjax.types import Params

if TYPE_CHECKING:
    from mmdjax.methods.settings import Diffusion, Student

SAMPLER = "ddim"
NEEDS = (1, 2, 4)


def rounds(modules: Modules, diffusion: Diffusion, options: Student) -> tuple[Round, ...]:
    """Return the one round, which is validated by the score of held-out rows."""
    grid, steps = times(modules, diffusion), diffusion.nfe
    error = scored(modules, grid, options.draws, options.beta, 1.0)
    return (Round(f"energy_{steps}", f"{steps}-step networks", error),)


def times(modules: Modules, diffusion: Diffusion) -> tuple[float, ...]:
    """Return the times of the steps."""
    grid = time_grid(diffusion.grid, modules.sde, diffusion.nfe, **diffusion.grid_arguments())
    return tuple(grid.tolist())


@shared
def scored(
    modules: Modules, grid: tuple[float, ...], draws: int, beta: float, repulsion: float
) -> Callable[..., jax.Array]:
    """Return the error of networks whose draws are steps of DDIM, see `of_draws`.

    Args:
      grid: the times of the steps.
    """

    def ends(params, noise_fn, x):
        step = registry.make("ddim", modules.sde, noise_fn).step
        for start, end in itertools.pairwise(grid):
            x = step(x, jnp.float32(start), jnp.float32(end), None)
        return x

    return of_draws(modules, lambda params: params, ends, draws, beta, repulsion)


def of_draws(
    modules: Modules,
    network: Callable[[Params], Params],
    ends: Callable[..., jax.Array],
    draws: int,
    beta: float,
    repulsion: float,
) -> Callable[..., jax.Array]:
    """Return the error of `losses.given_others`: `energy_score` of `draws` draws of each row.

    Args:
      network: parameters -> those of the network that is evaluated.
      ends: (parameters, noise_fn (x, t ()), noise of the prior) -> draws.
      beta, repulsion: of `energy_score`.
    """

    def error(params, x0, mask, condition, condition_id, condition_mask, keys):
        shown = (condition, condition_id, condition_mask)
        encoded = encode_condition(modules, network(params), *shown)
        encoded = encoded if encoded is None else encoded.repeat(draws)
        frames = jnp.repeat(mask, draws, axis=0)

        def noise_fn(x, t):
            t = jnp.broadcast_to(t, x.shape[:1])
            return predict_noise(modules, network(params), x, t, encoded, frames)

        shape = (len(x0) * draws, *x0.shape[1:])
        start = modules.sde.prior_std * jax.random.normal(keys[1], shape)
        drawn = ends(params, noise_fn, start).reshape(len(x0), draws, *x0.shape[1:])
        return energy_score(drawn, x0, mask, beta, repulsion)

    return error
