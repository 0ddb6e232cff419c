"""One optimiser step, and the batches of an epoch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mmdjax.runtime.compilation import AheadOfTime, shared
from mmdjax.training.settings import MESH, Mesh, Training
from mmdjax.training.sharding import Placement, placement
from mmdjax.training.state import Rates, State, initial_state, optimiser_of
from mmdjax.types import Params

Loss = Callable[..., jax.Array]  # (params, data, weight, key, frames) -> scalar, see `make_trainer`


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


def plan_epoch(
    bucket: np.ndarray, buckets: Sequence[int], batch: int, rng: np.random.Generator
) -> list[Rows]:
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
def make_trainer(loss_fn: Loss, settings: Training, total_steps: int, mesh: Mesh = MESH) -> Trainer:
    """Compiled training of one loss; seeds, rates and lengths share the program.

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
    rates = (settings.learning_rate, settings.weight_decay, settings.clip, settings.ema)
    rates = (*rates, warmup, max(total_steps, warmup + 1))
    rates = Rates(*(np.array(rate, np.float32) for rate in rates))
    init = functools.partial(initial_state, place, rates)
    return Trainer(init, compiled_step(loss_fn, place), place)


@shared
def compiled_step(loss_fn: Loss, place: Placement) -> AheadOfTime:
    """The step of every trainer of a loss on these devices."""

    def step(state, batch, common, weight, where, frames):
        key = jax.random.wrap_key_data(where[:2])
        for part in where[2:]:
            key = jax.random.fold_in(key, part)
        layout, rates, data = state.layout, state.rates, batch | common
        params = layout.unflat(place.gathered(state.params))
        loss, gradient = jax.value_and_grad(loss_fn)(params, data, weight, key, frames)
        gradient = place.constrained(layout.flat(gradient, len(state.params)))
        optimiser = optimiser_of(rates, state.steps)
        updates, optimiser_state = optimiser.update(gradient, state.optimiser, state.params)
        params = optax.apply_updates(state.params, updates)
        # A short memory at first, so that the average forgets where it started.
        decay = jnp.minimum(rates.ema, (1 + state.steps) / (10 + state.steps))
        average = decay * state.average + (1 - decay) * params
        steps, first = state.steps + 1, where[3] == 0
        total = jnp.where(first, 0.0, state.total) + loss
        broken = jnp.where((state.broken == 0) & ~jnp.isfinite(loss), steps, state.broken)
        made = State(params, average, optimiser_state, steps, total, broken, rates, layout)
        return place.constrained(made)

    return AheadOfTime(step, static_argnames="frames", donate_argnums=0)


def where_of(key: jax.Array, epoch: int, step: int) -> np.ndarray:
    """What a step's randomness is made of, see `Trainer`."""
    return np.array([*np.asarray(jax.random.key_data(key)), epoch, step], np.uint32)


def prepare_step(
    trainer: Trainer, params: Params, source: Source, settings: Training, frames: int
) -> None:
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
    zeros = jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), params)
    state = place.shapes(trainer.init(zeros))
    trainer.step.prepare(state, batch, common, weight, shape((4,), jnp.uint32), frames=frames)
