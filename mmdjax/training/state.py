"""The state of training between two steps: on devices, and as a checkpoint holds it."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mmdjax.training.flat import Layout
from mmdjax.training.sharding import Placement
from mmdjax.types import Params


class Rates(NamedTuple):
    """Settings of the optimiser, (): data of a step, so that other ones compile nothing.

    Attributes:
      learning_rate, weight_decay, clip, ema: see `Training`. warmup, total: steps.
    """

    learning_rate: jax.Array
    weight_decay: jax.Array
    clip: jax.Array
    ema: jax.Array
    warmup: jax.Array
    total: jax.Array

    def at(self, steps: jax.Array | int) -> jax.Array:
        """Learning rate after some steps: a linear warm-up, then a cosine down to 0."""
        rising = steps / jnp.maximum(self.warmup, 1)
        falling = jnp.clip((steps - self.warmup) / (self.total - self.warmup), 0, 1)
        cosine = 0.5 * (1 + jnp.cos(jnp.pi * falling))
        return self.learning_rate * jnp.where(steps < self.warmup, rising, cosine)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    """Training between two steps; P is the number of parameters, rounded up to share them evenly.

    Attributes:
      params: (P,). average: (P,) their moving average, equal to them without averaging.
      optimiser: state of `optimiser_of`, of vectors (P,).
      steps: taken. total: sum of the losses since the epoch began. broken: the first step, from 1,
        whose loss was not finite; 0 while there is none.
      rates: settings. layout: static, of the vectors.
    """

    params: jax.Array
    average: jax.Array
    optimiser: tuple
    steps: jax.Array
    total: jax.Array
    broken: jax.Array
    rates: Rates
    layout: Layout = dataclasses.field(metadata={"static": True})


def optimiser_of(rates: Rates, steps: jax.Array | int) -> optax.GradientTransformation:
    """AdamW at the learning rate of a step, of clipped gradients."""
    return optax.chain(
        optax.clip_by_global_norm(rates.clip),
        optax.adamw(rates.at(steps), weight_decay=rates.weight_decay),
    )


def initial_state(place: Placement, rates: Rates, params: Params) -> State:
    """The state before the first step, made without a program.

    Args:
      params: pytree of arrays.
    """
    layout = Layout.of(params)
    vector = layout.flat(jax.tree.map(np.asarray, params), place.padded(layout.size))
    shapes = jax.eval_shape(lambda: optimiser_of(rates, 0).init(vector))
    optimiser = jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), shapes)
    count, total = np.zeros((), np.int32), np.zeros((), np.float32)
    return place.placed(State(vector, vector, optimiser, count, total, count, rates, layout))


def to_host(place: Placement, state: State) -> dict:
    """What a checkpoint holds of a state: numpy arrays that do not tell of devices. All processes
    ask together."""

    def one(a):
        return place.host(a)[: state.layout.size] if a.ndim else place.host(a)

    kept = {"params": state.params, "average": state.average}
    kept |= {"optimiser": jax.tree.leaves(state.optimiser)}
    kept |= {"steps": state.steps, "total": state.total, "broken": state.broken}
    return jax.tree.map(one, kept)


def from_host(place: Placement, state: State, kept: dict) -> State:
    """The state that a checkpoint holds, with the rates and on the devices of another one."""
    beyond = len(state.params) - state.layout.size
    kept = jax.tree.map(lambda a: np.pad(a, (0, beyond)) if a.ndim else a, kept)
    kept["optimiser"] = jax.tree.unflatten(jax.tree.structure(state.optimiser), kept["optimiser"])
    return dataclasses.replace(state, **place.placed(kept))
