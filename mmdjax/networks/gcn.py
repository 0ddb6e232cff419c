"""Graph convolution over the utterances of a conversation, a graph a modality, and prediction.

Source: Shou et al. (2025), "GSDNet", eq. 12-14 and 19: a convolution over neighbouring utterances
and positions bring every modality to one width; then H <- ReLU(A H W) on each modality's own graph,
whose normalised adjacency holds the utterance itself. What the paper leaves open: modalities share
W, every layer is added to its input, and the modalities are joined by one dense layer at the end.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmdjax.networks.embeddings import sinusoids


class GCN(nn.Module):
    """Attributes:
    outputs: 1 for sentiment, otherwise classes.
    width, layers, dropout: of the convolutions. kernel: utterances seen by the first one (l_m).
    """

    outputs: int = 1
    width: int = 64
    layers: int = 2
    kernel: int = 1
    dropout: float = 0.1

    @nn.compact
    def __call__(
        self,
        x: tuple[jax.Array, ...],
        adjacency: jax.Array,
        position: jax.Array,
        valid: jax.Array,
        deterministic: bool = True,
    ) -> jax.Array:
        """From completed features to predictions of every utterance.

        Args:
          x: tuple of M arrays (B, N, C_m). adjacency: (B, M, N, N), normalised.
          position: (B, N). valid: (B, N) bool; padding may hold anything and yields 0.

        Returns:
          (B, N, outputs).
        """

        def drop(h):
            return nn.Dropout(self.dropout)(h, deterministic=deterministic)

        shown = valid[..., None]
        where = sinusoids(jnp.where(valid, position, 0.0), self.width)
        inputs = [
            nn.Conv(self.width, (self.kernel,), name=f"in_{m}")(drop(jnp.where(shown, a, 0.0)))
            for m, a in enumerate(x)
        ]
        h = jnp.where(shown[:, None], jnp.stack(inputs, axis=1) + where[:, None], 0.0)
        for layer in range(self.layers):
            h = h + drop(nn.relu(adjacency @ nn.Dense(self.width, name=f"layer_{layer}")(h)))
        h = jnp.moveaxis(h, 1, 2).reshape(*valid.shape, -1)
        h = drop(nn.relu(nn.Dense(self.width, name="join")(h)))
        return jnp.where(shown, nn.Dense(self.outputs, name="out")(h), 0.0)
