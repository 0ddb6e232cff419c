"""Dropout whose mask is a hash of each entry's place, far cheaper than Threefry's words.

Attention weights have S^2 entries a head and layer, so that their masks are a good part of a
training step of the fusion. Masks need no cryptographic generator: a hash of two rounds (lowbias32
by C. Wellons, of the family of MurmurHash3's finaliser) of the place and the key leaves no
correlation that the tests can find.
"""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp


def mixed(h: jax.Array) -> jax.Array:
    """Return uint32 of which every bit depends on all bits of h (lowbias32)."""
    h = (h ^ (h >> 16)) * jnp.uint32(0x7FEB352D)
    h = (h ^ (h >> 15)) * jnp.uint32(0x846CA68B)
    return h ^ (h >> 16)


def random_bits(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Return uint32 of a shape, a function of the key and the place.

    Args:
      key: a key of `jax.random`. shape: of fewer than 2^32 entries.
    """
    words = jax.random.key_data(key).reshape(-1).astype(jnp.uint32)
    place = jnp.zeros(shape, jnp.uint32)
    for axis in range(len(shape)):
        stride = jnp.uint32(math.prod(shape[axis + 1 :]))
        place += stride * jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
    # The first round alone would make masks of two keys permutations of each other.
    return mixed(mixed(place ^ words[0]) + words[-1])


def dropped(key: jax.Array, shape: tuple[int, ...], rate: float) -> jax.Array:
    """Return bool of a shape, True with probability `rate`: what a mask of this key drops."""
    return random_bits(key, shape) < jnp.uint32(int(rate * 2**32))


class Dropout(nn.Module):
    """As `flax.linen.Dropout`: zero with probability `rate`, else divided by 1 - rate."""

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool) -> jax.Array:
        if deterministic or self.rate == 0:
            return x
        out = dropped(self.make_rng("dropout"), x.shape, self.rate)
        return jnp.where(out, 0.0, x / (1 - self.rate))

    def key(self) -> jax.Array:
        """Return the key of a call's mask, for a function that applies it itself."""
        return self.make_rng("dropout")
