"""Networks that methods of utterance vectors share: encoders, classifiers, residual cascades."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmdjax.methods.vector.base import Vectors


class Encoders(nn.Module):
    """Embeddings (B, M, D) of `Vectors`, zeros where a modality is missing."""

    width: int
    dropout: float

    @nn.compact
    def __call__(self, x: Vectors, observed: jax.Array, deterministic: bool = True) -> jax.Array:
        parts = []
        for m, vector in enumerate(x):
            h = jnp.where(observed[:, m, None], vector, 0.0)
            for layer in range(2):
                h = nn.relu(nn.Dense(self.width, name=f"layer_{m}_{layer}")(h))
                h = nn.Dropout(self.dropout)(h, deterministic=deterministic)
            parts.append(h)
        return jnp.stack(parts, 1)


class Head(nn.Module):
    """A classifier of two hidden layers."""

    outputs: int
    width: int
    dropout: float

    @nn.compact
    def __call__(self, h: jax.Array, deterministic: bool = True) -> jax.Array:
        for layer in range(2):
            h = nn.relu(nn.Dense(self.width, name=f"layer_{layer}")(h))
            h = nn.Dropout(self.dropout)(h, deterministic=deterministic)
        return nn.Dense(self.outputs, name="out")(h)


class Cascade(nn.Module):
    """Residual autoencoders after each other (Tran et al. 2017; Zhao et al. 2021, eq. 2): each
    reads the input and all corrections.

    Attributes:
      sizes: of an autoencoder's hidden layers down to its code.
    """

    blocks: int
    sizes: tuple[int, ...]

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """x (B, F) -> (B, F), and the codes (B, blocks sizes[-1])."""
        *sizes, narrow = self.sizes
        codes = []
        for block in range(self.blocks):
            h = x
            for i, size in enumerate(sizes):
                h = nn.relu(nn.Dense(size, name=f"down_{block}_{i}")(h))
            code = nn.Dense(narrow, name=f"code_{block}")(h)
            codes.append(code)
            h = nn.relu(code)
            for i, size in enumerate(sizes[::-1]):
                h = nn.relu(nn.Dense(size, name=f"up_{block}_{i}")(h))
            # A correction that starts at zero: an untrained cascade is the identity.
            x = x + nn.Dense(x.shape[-1], name=f"out_{block}", kernel_init=nn.initializers.zeros)(h)
        return x, jnp.concatenate(codes, -1)
