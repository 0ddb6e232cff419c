"""GCNet's network: LSTMs over a conversation, and convolutions on its two graphs.

See `methods/gcnet.py`, which trains it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmdjax.methods.vector.base import padded

if TYPE_CHECKING:
    from mmdjax.methods.gcnet import Settings


class Sequence(nn.Module):
    """A bidirectional LSTM over (B, N, D) of which (B,) utterances exist: (B, N, 2 width)."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array, lengths: jax.Array) -> jax.Array:
        forward, backward = (nn.RNN(nn.OptimizedLSTMCell(self.width)) for _ in range(2))
        return nn.Bidirectional(forward, backward)(x, seq_lengths=lengths)


class Convolution(nn.Module):
    """A graph convolution with a matrix for each relation, means over their neighbours, and the
    sum over all neighbours after it."""

    width: int

    @nn.compact
    def __call__(self, h: jax.Array, relations: jax.Array) -> jax.Array:
        """h (B, N, D), relations (R, B, N, N) bool, of i to j -> (B, N, width)."""
        weight = relations / jnp.maximum(relations.sum(-1, keepdims=True), 1)
        messages = jnp.einsum("rbij,bjd->bird", weight, h).reshape(*h.shape[:2], -1)
        h = nn.Dense(self.width, name="own")(h)
        h = h + nn.Dense(self.width, use_bias=False, name="relations")(messages)
        joined = relations.any(0).astype(h.dtype)
        neighbours = nn.Dense(self.width, use_bias=False, name="neighbours")(joined @ h)
        return nn.Dense(self.width, name="again")(h) + neighbours


class Network(nn.Module):
    """Outputs (B, N, outputs) and rebuilt features (B, N, M, C) of conversations."""

    outputs: int
    channels: tuple[int, ...]
    speakers: int
    width: int
    convolution: int
    hidden: int
    window: int
    dropout: float

    @classmethod
    def of(cls, options: Settings, outputs: int, channels: tuple[int, ...], speakers: int) -> Self:
        """Return the network of these options."""
        names = ("width", "convolution", "hidden", "window", "dropout")
        sizes = (getattr(options, name) for name in names)
        return cls(outputs, channels, speakers, *sizes)

    @nn.compact
    def __call__(
        self,
        x: tuple[jax.Array, ...],
        observed: jax.Array,
        speaker: jax.Array,
        valid: jax.Array,
        deterministic: bool = True,
    ) -> tuple[jax.Array, jax.Array]:
        """x: M arrays (B, N, C_m). observed (B, N, M), speaker (B, N), valid (B, N)."""
        drop = nn.Dropout(self.dropout, deterministic=deterministic)
        speaker = jnp.minimum(speaker, self.speakers - 1)  # later ones share the last one's weights
        seen = [jnp.where(observed[..., m, None], v, 0.0) for m, v in enumerate(x)]
        lengths = valid.sum(1)
        h = drop(Sequence(self.width, name="first")(jnp.concatenate(seen, -1), lengths))
        total = 0.0
        for name, relations in related(speaker, valid, self.window, self.speakers).items():
            g = Convolution(self.convolution, name=name)(h, relations)
            g = Sequence(self.hidden, name=f"{name}_last")(jnp.concatenate([h, g], -1), lengths)
            total += nn.relu(nn.Dense(self.hidden, name=f"{name}_out")(drop(g)))
        outputs = nn.Dense(self.outputs, name="label")(total)
        rebuilt = nn.Dense(sum(self.channels), name="features")(total)
        parts = jnp.split(rebuilt, np.cumsum(self.channels)[:-1], -1)
        flat = padded([part.reshape(-1, part.shape[-1]) for part in parts])
        return outputs, flat.reshape(*outputs.shape[:2], *flat.shape[1:])


def numbered(speaker: jax.Array, valid: jax.Array) -> jax.Array:
    """Return (B, N) int32: a conversation's speakers in the order in which they first speak."""
    alike = (speaker[:, :, None] == speaker[:, None]) & valid[:, None]
    first = jnp.argmax(alike, -1)
    new = (first == jnp.arange(speaker.shape[1])) & valid
    return jnp.take_along_axis(new.cumsum(1) - 1, first, 1).astype(jnp.int32)


def related(
    speaker: jax.Array, valid: jax.Array, window: int, speakers: int
) -> dict[str, jax.Array]:
    """Return the relations (R, B, N, N) bool of both graphs: utterance i is joined to j.

    'temporal': j before, at and after i. 'speaker': i is of one speaker and j of another, for each
    of the `speakers` squared pairs.
    """
    place = jnp.arange(speaker.shape[1])
    offset = place - place[:, None]
    near = (jnp.abs(offset) <= window) & valid[:, :, None] & valid[:, None]
    order = jnp.stack([offset < 0, offset == 0, offset > 0])[:, None]
    of = jax.nn.one_hot(speaker, speakers, dtype=bool).transpose(2, 0, 1)  # (S, B, N)
    pairs = of[:, None, :, :, None] & of[None, :, :, None]
    return {"temporal": near & order, "speaker": near & pairs.reshape(-1, *pairs.shape[2:])}
