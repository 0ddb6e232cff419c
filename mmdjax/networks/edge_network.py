"""Predictions for every pair of utterances, for graphs that are diffused as whole matrices.

In the spirit of GDSS' network of adjacency matrices (Jo et al. 2022, section 3.3): pairs (i, j) and
(j, k) tell of (i, k), here by a product of matrices in every layer. Time modulates every layer as
in DiT (adaLN-Zero). Time and memory grow with N^3 and N^2.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmdjax.networks.modulation import ModulatedOut, Modulation, TimeEmbedding, plain_norm
from mmdjax.networks.transformer import Dense


class EdgeNetwork(nn.Module):
    """Attributes:
    outputs: numbers a pair. width, layers: of the layers.
    time_features, fourier_scale: of the time.
    """

    outputs: int
    width: int = 16
    layers: int = 2
    time_features: int = 128
    fourier_scale: float = 16.0

    @nn.compact
    def __call__(self, tokens: jax.Array, t: jax.Array, valid: jax.Array) -> jax.Array:
        """tokens (B, N, N, F), t (B,), valid (B, N) -> (B, N, N, outputs), symmetric in the pair.

        Pairs with an utterance that is not valid may hold anything, and yield 0.
        """
        pairs = (valid[:, :, None] & valid[:, None, :])[..., None]
        c = TimeEmbedding(self.width, self.time_features, self.fourier_scale, name="time")(t)
        c = c[:, None, None]
        h = Dense(self.width, name="tokens_in")(jnp.where(pairs, tokens, 0.0))
        count = jnp.maximum(valid.sum(-1), 1)[:, None, None, None]
        for layer in range(self.layers):
            shift, scale, gate = Modulation(self.width, 3, name=f"modulation_{layer}")(c)
            y = jnp.where(pairs, plain_norm()(h) * (1 + scale) + shift, 0.0)
            left, right = (Dense(self.width, name=f"{side}_{layer}")(y) for side in ("in", "to"))
            left, right = (jnp.where(pairs, a, 0.0) for a in (left, right))
            paths = jnp.einsum("bijf,bjkf->bikf", left, right) / jnp.sqrt(count)
            y = nn.gelu(Dense(2 * self.width, name=f"mix_{layer}")(jnp.concatenate([y, paths], -1)))
            h = h + gate * Dense(self.width, name=f"out_{layer}")(y)
        out = ModulatedOut(self.outputs, name="out")(h, c)
        return jnp.where(pairs, (out + out.swapaxes(1, 2)) / 2, 0.0)
