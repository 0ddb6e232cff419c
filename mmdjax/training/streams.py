"""Random streams: each phase of training owns one, by the hash of its name."""

from __future__ import annotations

import zlib

import jax


def stream(name: str) -> int:
    """Return the number of a random stream, a hash of its name."""
    return zlib.crc32(name.encode()) & 0x7FFFFFFF


def phase_keys(seed: int, name: str) -> jax.Array:
    """Return (2,) keys of a phase: of its initialisation, and of its training."""
    return jax.random.split(jax.random.fold_in(jax.random.key(seed), stream(name)))
