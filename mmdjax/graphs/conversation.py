"""The graph of a conversation: utterances are nodes, joined by time, speakers and likeness.

Functions take one conversation of N utterances, padding included, as JAX or numpy arrays; batches
come by `jax.vmap`. An utterance that is not `valid` has no edges, so padding changes nothing, and
nothing depends on the order in which utterances are given: time is `position`, not the index.

Source: Shou et al. (2025), "GSDNet", section 4, which leaves the edges open; temporal window and
speakers as in Lian et al. (2023), "GCNet" (two past, two future).
"""

from __future__ import annotations

from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

Array = TypeVar("Array", jax.Array, np.ndarray)


def structure(
    position: Array,
    speaker: Array,
    valid: Array,
    past: float = 2,
    future: float = 2,
    scale: float = 2.0,
    across: float = 0.5,
) -> Array:
    """Return weights of what is always known: who speaks when.

    i and j are joined if j is within `past` utterances before or `future` after i, or the other way
    round, since edges have no direction. The weight falls as exp(-|i - j| / scale), and is
    multiplied by `across` between different speakers; an utterance is joined to itself with 1.

    Args:
      position: (N,) of an utterance in its conversation, any unit; windows and `scale` share it.
      speaker: (N,) integers.
      valid: (N,) bool, False for padding.

    Returns:
      (N, N) symmetric, 0 to 1.
    """
    xp = jnp if isinstance(position, jax.Array) else np
    gap = position[None, :] - position[:, None]
    near = (gap >= -past) & (gap <= future)
    weights = xp.exp(-xp.abs(gap) / scale)
    weights = weights * xp.where(speaker[:, None] == speaker[None, :], 1.0, across)
    joined = (near | near.T) & valid[:, None] & valid[None, :]
    return xp.where(joined, weights, 0.0)


# Graphs whose eigenvectors may serve as a basis, as edges of `structure`: all of them are known
# without any features. 'time' does not tell speakers apart, 'every_pair' has no window.
BASES = {
    "structure": {},
    "time": {"across": 1.0},
    "every_pair": {"past": np.inf, "future": np.inf},
}


def by_likeness(weights: jax.Array, x: jax.Array, valid: jax.Array) -> jax.Array:
    """Return a modality's weights: those of the structure times (1 + cosine) / 2 of its features.

    Args:
      weights: (N, N). x: (N, D); entries that are not valid may hold anything.
    """
    x = jnp.where(valid[:, None], x, 0.0)
    square = jnp.sum(x**2, axis=-1, keepdims=True)
    unit = x / jnp.sqrt(jnp.where(square > 0, square, 1.0))  # a gradient at 0 stays finite
    cosine = jnp.where(jnp.eye(len(x), dtype=bool), 1.0, unit @ unit.T)
    return weights * (1 + cosine) / 2


def normalised(weights: Array) -> Array:
    """Return D^-1/2 W D^-1/2: symmetric, eigenvalues in [-1, 1]; rows without edges stay 0."""
    xp = jnp if isinstance(weights, jax.Array) else np
    degree = weights.sum(-1)
    root = xp.where(degree > 0, 1 / xp.sqrt(xp.where(degree > 0, degree, 1.0)), 0.0)
    return root[:, None] * weights * root[None, :]
