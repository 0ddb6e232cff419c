"""One network for 1, 2, 4 and 8 evaluations: Frans et al. (2025), "One step diffusion".

The network is told how many steps the grid has, by an embedding that is zero at the start. A step
of 8 learns two Heun steps of the frozen score networks, one of fewer two steps of DDIM of the
network itself with twice as many. A fifth of each batch keeps the ordinary loss, as of the score
networks, whose prediction stands beside those of the steps (level 0).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from mmdjax.diffusion.time_grids import time_grid
from mmdjax.methods.latent.losses import matching
from mmdjax.methods.latent.modules import Modules
from mmdjax.methods.latent.students.progressive import INNER, MOST, jump
from mmdjax.methods.latent.students.round import Round
from mmdjax.runtime.compilation import shared
from mmdjax.types import Params

if TYPE_CHECKING:
    from mmdjax.methods.settings import Diffusion, Student

SAMPLER, NETWORK = "ddim", "score_transformer"
NEEDS = (1, 2, 4, 8)
LEVELS = 1 + len(NEEDS)  # of the embedding: any step, and each number of them


def level_of(steps: int) -> int:
    """Return the row of the embedding for a number of steps."""
    return 1 + NEEDS.index(steps)


def rounds(modules: Modules, diffusion: Diffusion, options: Student) -> tuple[Round, ...]:
    """Return the one round."""
    weighting, arguments = diffusion.weighting, diffusion.grid_arguments()
    grids = tuple(
        tuple(time_grid(diffusion.grid, modules.sde, steps * INNER, **arguments).tolist())
        for steps in NEEDS
    )
    error = shortcuts(modules, networks(modules), grids, weighting)
    return (Round("shortcut", "shortcut networks", error, taught=True, begin=with_levels),)


def networks(modules: Modules) -> Modules:
    """Return modules whose networks are told the number of steps."""
    return modules._replace(score=modules.score.clone(levels=LEVELS))


def told(modules: Modules, evaluations: int) -> tuple[Modules, int]:
    """Return these modules, and the level of a draw by so many evaluations."""
    return networks(modules), level_of(evaluations)


def with_levels(params: Params) -> Params:
    """Return parameters of score networks with an embedding of steps, of zeros."""
    own = params["params"]
    modalities, _, width = own["position"].shape
    return {"params": dict(own) | {"level": jnp.zeros((modalities, LEVELS, width))}}


@shared
def shortcuts(
    plain: Modules, levelled: Modules, grids: tuple[tuple[float, ...], ...], weighting: str
) -> Callable[..., jax.Array]:
    """Return the error of `losses.given_others` over the five parts of a batch.

    Args:
      plain, levelled: modules of the teacher and of the student.
      grids: the times of each of `NEEDS`, with `INNER` times as many steps.
    """
    ordinary = matching(levelled, weighting, "clean", 0.0)
    first = jump(plain, levelled, grids[-1], "heun", level_of(MOST))
    rest = [
        jump(levelled, levelled, grid, "ddim", level_of(steps), level_of(steps * INNER))
        for steps, grid in zip(NEEDS[:-1], grids[:-1], strict=True)
    ]

    def error(params, *given):
        *rows, keys = given
        own, teacher = params
        still = jax.lax.stop_gradient(own)
        parts = [(ordinary, own), (first, (own, teacher)), *((j, (own, still)) for j in rest)]
        batch, errors = len(rows[0]), []
        for number, (part, learned) in enumerate(parts):
            low, high = (round(batch * i / len(parts)) for i in (number, number + 1))
            if low < high:
                some = (a if a.ndim == 1 else a[low:high] for a in rows)  # ids may be common to all
                fresh = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
                errors.append(part(learned, *some, fresh))
        return jnp.concatenate(errors)

    return error
