"""Reconstruction modules D_X and D_Lambda of GSDNet (eq. 17): drawn values, corrected."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmdjax.networks.transformer import Dense


class Refine(nn.Module):
    """Two dense layers on every token, added to what was drawn; the identity at the start.

    Attributes:
      outputs: numbers a token. width: between the layers.
    """

    outputs: int
    width: int = 64

    @nn.compact
    def __call__(self, drawn: jax.Array, tokens: jax.Array) -> jax.Array:
        """drawn (..., outputs), tokens (..., F) -> (..., outputs)."""
        h = nn.gelu(Dense(self.width, name="tokens_in")(jnp.concatenate([drawn, tokens], -1)))
        return drawn + Dense(self.outputs, kernel_init=nn.initializers.zeros, name="out")(h)
