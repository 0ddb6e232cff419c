"""One optimiser step, and the batches of an epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mmdjax.runtime.compilation import AheadOfTime, shared
from mmdjax.training.settings import MESH, Mesh
from mmdjax.training.sharding import Placement, placement


class State(NamedTuple):
    """params; their moving average (equal to params without averaging); optimiser state.

    Attributes:
      steps: taken. total: sum of the losses since the epoch began. broken: the first step, from 1,
        whose loss was not finite; 0 while there is none.
    """

    params: dict
    average: dict
    optimiser: tuple
    steps: jax.Array
    total: jax.Array
    broken: jax.Array


class Source(NamedTuple):
    """What a phase learns from.

    Attributes:
      rows: pytree of numpy arrays (N, ...), one entry a sample; a step is given those of its batch.
      common: dict of what every step sees beside them.
    """

    rows: dict
    common: dict = {}  # noqa: RUF012

    def at(self, rows: np.ndarray) -> dict:
        """Some rows, as losses read them."""
        return jax.tree.map(lambda a: a[rows], self.rows) | self.common


class Rows(NamedTuple):
    """A batch by index: rows (B,) into the split, weight (B,) 0 for padding, frames to cut to."""

    rows: np.ndarray
    weight: np.ndarray
    frames: int


def plan_epoch(bucket: np.ndarray, buckets: Sequence[int], batch: int, rng) -> list[Rows]:
    """Shuffled batches that hold each sample once, of one length bucket each.

    Args:
      bucket: (N,) index into `buckets` of each sample.
      buckets: lengths.
      batch: B; the last batch of a bucket is filled up with rows of weight 0.
      rng: numpy generator.
    """
    plan = []
    for index, frames in enumerate(buckets):
        rows = rng.permutation(np.flatnonzero(bucket == index))
        for start in range(0, len(rows), batch):
            part = rows[start : start + batch]
            weight = np.zeros(batch, np.float32)
            weight[: len(part)] = 1.0
            plan.append(Rows(np.resize(part, batch).astype(np.int32), weight, frames))
    return [plan[i] for i in rng.permutation(len(plan))]


def steps_per_epoch(bucket: np.ndarray, batch: int) -> int:
    return sum(-(-int(n) // batch) for n in np.bincount(bucket) if n)


class Trainer(NamedTuple):
    """init: params -> State. step: (state, batch, common, weight, where, frames) -> state.

    Attributes:
      placement: which devices hold what. batch: rows of `Source.rows` and their weight, on them.
      `where` (4,) uint32: key data of the phase, epoch, and step of the epoch.
    """

    init: Callable
    step: AheadOfTime
    placement: Placement


@shared
def make_trainer(loss_fn, settings, total_steps: int, mesh: Mesh = MESH) -> Trainer:
    """Compiled training of one loss; the same object serves every seed without recompiling.

    Args:
      loss_fn: (params, data, weight, key, frames) -> scalar, data: `Source.rows` of a batch and
        `Source.common` in one dict; `frames` is static.
      settings: `mmdjax.config.Training`.
      total_steps: length of the cosine decay.

    Raises:
      UserError: the mesh does not fit the devices or the batch.
    """
    place = placement(mesh, settings.batch)
    warmup = min(settings.warmup, total_steps // 2)
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, settings.learning_rate, warmup, max(total_steps, warmup + 1)
    )
    optimiser = optax.chain(
        optax.clip_by_global_norm(settings.clip),
        optax.adamw(schedule, weight_decay=settings.weight_decay),
    )

    @jax.jit  # operation by operation it takes a second
    def init(params) -> State:
        copy = jax.tree.map(jnp.copy, params)
        zero = jnp.int32(0)
        state = State(params, copy, optimiser.init(params), zero, jnp.float32(0), zero)
        return place.constrained(state)

    def step(state, batch, common, weight, where, frames):
        key = jax.random.wrap_key_data(where[:2])
        for part in where[2:]:
            key = jax.random.fold_in(key, part)
        whole, data = place.gathered(state.params), batch | common
        loss, gradient = jax.value_and_grad(loss_fn)(whole, data, weight, key, frames)
        gradient = place.constrained(gradient)
        updates, optimiser_state = optimiser.update(gradient, state.optimiser, state.params)
        params = optax.apply_updates(state.params, updates)
        # A short memory at first, so that the average forgets where it started.
        decay = jnp.minimum(settings.ema, (1 + state.steps) / (10 + state.steps))
        average = jax.tree.map(
            lambda old, new: decay * old + (1 - decay) * new, state.average, params
        )
        steps, first = state.steps + 1, where[3] == 0
        total = jnp.where(first, 0.0, state.total) + loss
        broken = jnp.where((state.broken == 0) & ~jnp.isfinite(loss), steps, state.broken)
        made = State(params, average, optimiser_state, steps, total, broken)
        return place.constrained(made)

    return Trainer(init, AheadOfTime(step, static_argnames="frames", donate_argnums=0), place)


def where_of(key, epoch: int, step: int) -> np.ndarray:
    """What a step's randomness is made of, see `Trainer`."""
    return np.array([*np.asarray(jax.random.key_data(key)), epoch, step], np.uint32)


def prepare_step(trainer: Trainer, params, source: Source, settings, frames: int) -> None:
    """Starts compiling a trainer's step in the background.

    Args:
      params, source: pytrees of arrays or their shapes, as `fit` will have them.
      settings: `mmdjax.config.Training`. frames: of one length bucket.
    """
    place, shape = trainer.placement, jax.ShapeDtypeStruct
    batch = jax.tree.map(lambda a: shape((settings.batch, *a.shape[1:]), a.dtype), source.rows)
    weight = shape((settings.batch,), jnp.float32)
    batch, weight = place.shapes((batch, weight), place.rows)
    common = place.shapes(source.common, place.everywhere)
    state = place.shapes(jax.eval_shape(trainer.init, params))
    trainer.step.prepare(state, batch, common, weight, shape((4,), jnp.uint32), frames=frames)
