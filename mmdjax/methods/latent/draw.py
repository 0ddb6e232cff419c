"""The compiled draw of missing latents. Which rows it is called for: `work_list.py`.

Parameters, modality ids and frame masks are data: for M modalities M - 1 programs a length bucket
serve every pattern, every rate and every seed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmdjax.diffusion import sample, time_grid
from mmdjax.diffusion.conditioning import in_sampling
from mmdjax.diffusion.guidance import classifier_free
from mmdjax.diffusion.predictions import NoiseFn, scaled
from mmdjax.diffusion.samplers.loop import check_grid
from mmdjax.diffusion.samplers.registry import steps_for
from mmdjax.diffusion.sde import SDE
from mmdjax.methods.latent import students
from mmdjax.methods.latent.modules import (
    Modules,
    encode_condition,
    networks_alone,
    predict_noise,
)
from mmdjax.runtime.compilation import AheadOfTime, shared
from mmdjax.runtime.devices import over_devices, replicated, spreads
from mmdjax.types import Params

if TYPE_CHECKING:
    from mmdjax.methods.settings import Diffusion

# Draw two missing modalities of an utterance side by side, where nothing couples them: saves a scan
# where launches cost more than arithmetic. Off on a CPU, where launches are cheap.
TOGETHER = {"cpu": False, "gpu": True, "tpu": True}


class Drawer(NamedTuple):
    """A compiled draw, and how missing modalities are coupled.

    Attributes:
      draw: (score_params, targets (G,), condition (B, C, T, D), condition_id (B, C), mask (B, T),
        condition_mask (B, C, T), keys (G, B, K), grid, guidance ()) -> x (G, B, K, T, D), nfe. The
        K draws of a row share its encoded condition; G targets are drawn in one scan.
      key_of: (key, ids (B,), draw index (B, K), targets (G,)) -> keys (G, B, K).
      coupling: 'chain' or 'independent'.
      grid: (steps + 1,) float32 times, data for `draw`.
      guidance: scale of classifier-free guidance, likewise.
      together: more than one target a call.
      share: the K draws of a row share its encoded condition, a program of its own. Off where the
        network encodes a condition at little cost, so that every draw has a line of K = 1.
    """

    draw: AheadOfTime
    key_of: Callable
    coupling: str
    grid: np.ndarray
    guidance: float = 1.0
    together: bool = False
    share: bool = True


def make_drawer(modules: Modules, diffusion: Diffusion, together: bool | None = None) -> Drawer:
    """Compiles on first use, or before (`prepare`).

    Args:
      diffusion: `mmdjax.config.Diffusion`.
      together: see `Drawer`; by default as `TOGETHER` says for this backend.
    """
    if together is None:
        together = TOGETHER.get(jax.default_backend(), False)
    together = together and diffusion.coupling == "independent"
    return _drawer(networks_alone(modules), diffusion, together)


@shared
def _drawer(modules: Modules, diffusion: Diffusion, together: bool) -> Drawer:
    grid = grid_of(modules.sde, diffusion)
    modules = with_dtype(modules, diffusion.dtype)

    def draw(params, targets, condition, condition_id, mask, condition_mask, keys, grid, guidance):
        params = rounded(params, diffusion.dtype)  # once a draw, not once an evaluation

        def of_rows(params, targets, grid, guidance, keys, *rows):
            def of_target(target, keys):
                own = jax.tree.map(lambda a: a[target], params)
                return draw_target(modules, diffusion, own, *rows, keys, grid, guidance)

            if len(targets) == 1:  # spares the products a batch axis of one
                return jax.tree.map(lambda a: a[None], of_target(targets[0], keys[0]))
            return jax.vmap(of_target)(targets, keys)

        rows = (keys, condition, condition_id, mask, condition_mask)
        x, nfe = over_devices(of_rows, (params, targets, grid, guidance), rows, (1, 0, 0, 0, 0), 1)
        return x, nfe.max()

    @jax.jit
    def key_of(key, ids, draw_index, targets):
        fold = jax.random.fold_in

        def one(target, row, k):
            return fold(fold(fold(key, row), k), target)

        of_draws = jax.vmap(one, (None, None, 0))
        of_rows = jax.vmap(of_draws, (None, 0, 0))
        return jax.vmap(of_rows, (0, None, None))(targets, ids, draw_index)

    return Drawer(
        AheadOfTime.run_often(draw),
        key_of,
        diffusion.coupling,
        grid,
        diffusion.guidance,
        together,
        share=getattr(modules.score, "shares_condition", True),
    )


def with_dtype(modules: Modules, dtype: str) -> Modules:
    """Score networks whose products have operands of `dtype`."""
    operands = None if dtype == "float32" else jnp.dtype(dtype)
    return modules._replace(score=modules.score.clone(dtype=operands))


def rounded(params: Params, dtype: str) -> Params:
    """Only operands of products: biases, norms and embeddings are added in float32."""
    if dtype == "float32":
        return params

    def one(path, a):
        return a.astype(dtype) if path[-1].key == "kernel" else a

    return jax.tree_util.tree_map_with_path(one, params)


def grid_of(sde: SDE, diffusion: Diffusion) -> np.ndarray:
    """(steps + 1,) times of a config's draws."""
    steps = steps_for(diffusion.sampler, diffusion.nfe, **diffusion.options())
    grid = time_grid(diffusion.grid, sde, steps, **diffusion.grid_arguments())
    check_grid(grid, sde)
    return np.asarray(grid, np.float32)


def draw_target(
    modules: Modules,
    diffusion: Diffusion,
    params: Params,
    condition: jax.Array,
    condition_id: jax.Array,
    mask: jax.Array,
    condition_mask: jax.Array,
    keys: jax.Array,
    grid: jax.Array | np.ndarray,
    guidance: jax.Array | float,
) -> tuple[jax.Array, jax.Array]:
    """Draws (B, K, T, D) of one target, zero off the mask, and their nfe (B,).

    Args:
      diffusion: `mmdjax.config.Diffusion`. params: of the target's score network.
      condition (B, C, T, D), condition_id, condition_mask (B, C, T): see `encode_condition`.
      mask: (B, T) frames to draw. keys: (B, K). grid: (steps + 1,). guidance: its scale.
    """
    batch, draws = keys.shape
    modules, level = students.told(modules, diffusion)

    def given(condition_mask):
        shown = (condition, condition_id, condition_mask)
        return noise_given(modules, diffusion.conditioning, params, *shown, mask, keys, level)

    noise_fn = given(condition_mask)
    if diffusion.guidance != 1:
        unconditional = given(jnp.zeros_like(condition_mask))
        noise_fn = classifier_free(noise_fn, unconditional, guidance)
    shape = condition.shape[2:]
    solver = (grid, diffusion.sampler, diffusion.options())
    grid, sampler, options = students.solver_of(modules, params, *solver)
    flat = keys.reshape(-1)
    about = (modules.sde, grid, sampler)
    x, nfe = sample(flat, shape, noise_fn, *about, prior=diffusion.prior, **options)
    x = jnp.where(mask[:, None, :, None], x.reshape(batch, draws, *shape), 0.0)
    return x, jnp.full(batch, nfe)


def noise_given(
    modules: Modules,
    conditioning: str,
    params: Params,
    condition: jax.Array,
    condition_id: jax.Array,
    condition_mask: jax.Array,
    mask: jax.Array,
    keys: jax.Array,
    level: int = 0,
) -> NoiseFn:
    """The noise prediction of one target given a condition, as a function of (x, t) for `sample`.

    Args:
      conditioning: of `diffusion.conditioning.MODES`.
      params: of the target's score network.
      condition (B, C, T, D), condition_id, condition_mask (B, C, T): see `encode_condition`.
      mask: (B, T) frames to draw.
      keys: (B, K) of the draws; x has their B K rows.
      level: see `students.told`.
    """
    draws, sde = keys.shape[1], modules.sde
    repeat = lambda a: jnp.repeat(a, draws, axis=0)  # noqa: E731
    mask = repeat(mask)

    def predict(x, t, encoded):
        t = jnp.broadcast_to(t, x.shape[:1])
        return predict_noise(modules, params, x, t, encoded, mask, level)

    if conditioning == "clean":
        encoded = encode_condition(modules, params, condition, condition_id, condition_mask)
        encoded = encoded if encoded is None else encoded.repeat(draws)
        return lambda x, t: predict(x, t, encoded)

    # Noise is every draw's own, and new at every time.
    rows = (repeat(condition_id), repeat(condition_mask))
    noise_keys = jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys.reshape(-1))

    def noise_fn(x, t):
        shown = in_sampling(conditioning, sde, repeat(condition), t, noise_keys)
        shown = scaled(sde, shown, t)[0]
        return predict(x, t, encode_condition(modules, params, shown, *rows))

    return noise_fn


def prepare(drawer: Drawer, modules: Modules, config: Any) -> None:
    """Starts compiling every program that a run of `config` draws with, in the background.

    Args:
      config: `mmdjax.config.Config`.
    """
    modalities, width = modules.score.modalities, config.latents.channels
    shape, key = jax.ShapeDtypeStruct, jax.eval_shape(lambda: jax.random.key(0))

    def rows(batch, conditions, frames):
        return (
            shape((batch, conditions, frames, width), jnp.float32),
            shape((batch, conditions), jnp.int32),
            shape((batch, frames), bool),
            shape((batch, conditions, frames), bool),
        )

    params = students.shapes(modules, config)

    def placed(rows):
        if not spreads(rows):
            return params
        return jax.tree.map(lambda a: shape(a.shape, a.dtype, sharding=replicated()), params)

    batch, draws = config.evaluation.batch, config.evaluation.draws
    several = {(batch, 1)}
    if drawer.share:
        several.add((max(1, batch // draws), draws))
    for frames in config.data.length_buckets:
        for conditions in range(1, modalities):
            together = modalities - conditions if drawer.together else 1
            for each, count in sorted(several):
                for targets in range(1, together + 1):
                    shapes = (targets, each, count)
                    drawer.draw.prepare(
                        placed(each),
                        shape((targets,), jnp.int32),
                        *rows(each, conditions, frames),
                        shape(shapes, key.dtype),
                        shape(drawer.grid.shape, jnp.float32),
                        shape((), jnp.float32),
                    )
