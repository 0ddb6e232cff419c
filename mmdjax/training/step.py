"""One optimiser step, and the batches of an epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mmdjax.compilation import AheadOfTime, shapes_of, shared


class State(NamedTuple):
    """params; their moving average (equal to params without averaging); optimiser state; steps."""

    params: dict
    average: dict
    optimiser: tuple
    steps: jax.Array


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
    """init: params -> State. step: (state, data, rows, weight, key, frames) -> (state, loss)."""

    init: Callable
    step: AheadOfTime


@shared
def make_trainer(loss_fn, settings, total_steps: int) -> Trainer:
    """Compiled training of one loss; the same object serves every seed without recompiling.

    Args:
      loss_fn: (params, data, rows, weight, key, frames) -> scalar; `frames` is static.
      settings: `mmdjax.config.Training`.
      total_steps: length of the cosine decay.
    """
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
        return State(params, jax.tree.map(jnp.copy, params), optimiser.init(params), jnp.int32(0))

    def step(state, data, rows, weight, key, frames):
        loss, gradient = jax.value_and_grad(loss_fn)(state.params, data, rows, weight, key, frames)
        updates, optimiser_state = optimiser.update(gradient, state.optimiser, state.params)
        params = optax.apply_updates(state.params, updates)
        # A short memory at first, so that the average forgets where it started.
        decay = jnp.minimum(settings.ema, (1 + state.steps) / (10 + state.steps))
        average = jax.tree.map(
            lambda old, new: decay * old + (1 - decay) * new, state.average, params
        )
        return State(params, average, optimiser_state, state.steps + 1), loss

    return Trainer(init, AheadOfTime(step, static_argnames="frames", donate_argnums=0))


def prepare_step(trainer: Trainer, params, data, settings, frames: int) -> None:
    """Starts compiling a trainer's step in the background.

    Args:
      params, data: pytrees of arrays or their shapes, as `fit` will have them.
      settings: `mmdjax.config.Training`. frames: of one length bucket.
    """
    rows = jax.ShapeDtypeStruct((settings.batch,), jnp.int32)
    weight = jax.ShapeDtypeStruct((settings.batch,), jnp.float32)
    state = jax.eval_shape(trainer.init, params)
    key = jax.eval_shape(lambda: jax.random.key(0))
    trainer.step.prepare(state, shapes_of(data), rows, weight, key, frames=frames)
