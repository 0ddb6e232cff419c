"""Fusion for small sets: a multilayer perceptron on the means of each modality's latents."""

import flax.linen as nn
import jax.numpy as jnp


class PooledMLP(nn.Module):
    """From latents of M modalities to `outputs` numbers an utterance.

    The linear map beside the hidden layers learns what a linear model does, which is hard to beat
    on hundreds of utterances; dropout on every hidden layer does the rest.

    Attributes:
      layers, width: of the hidden layers.
      dropout: on what each of them returns.
    """

    layers: int = 2
    width: int = 256
    dropout: float = 0.5
    outputs: int = 1

    @nn.compact
    def __call__(self, x, valid, deterministic: bool = True):
        """x (B, M, T, D), valid (B, M, T) -> (B, outputs)."""
        total = jnp.where(valid[..., None], x, 0.0).sum(2)
        mean = total / jnp.maximum(valid.sum(2), 1)[..., None]
        flat = h = mean.reshape(x.shape[0], -1)
        for layer in range(self.layers):
            h = nn.relu(nn.Dense(self.width, name=f"layer_{layer}")(h))
            h = nn.Dropout(self.dropout)(h, deterministic=deterministic)
        linear = nn.Dense(self.outputs, use_bias=False, name="linear")(flat)
        return linear + nn.Dense(self.outputs, name="head")(h)
