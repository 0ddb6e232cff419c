"""Fusion for small sets: a multilayer perceptron on the means of each modality's latents."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


class PooledMLP(nn.Module):
    """From latents of M modalities to `outputs` numbers an utterance.

    The linear map beside the hidden layers learns what a linear model does, which is hard to beat
    on hundreds of utterances; dropout on every hidden layer does the rest.

    Attributes:
      layers, width: of the hidden layers.
      dropout: on what each of them returns.
      told: the network sees which modalities are not observed, and has weights of its own for
        them, 0 at the start: what is drawn does not weaken what it makes of the same modality where
        it is observed.
    """

    layers: int = 2
    width: int = 256
    dropout: float = 0.5
    outputs: int = 1
    told: bool = False

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        valid: jax.Array,
        deterministic: bool = True,
        observed: jax.Array | None = None,
    ) -> jax.Array:
        """x (B, M, T, D), valid (B, M, T), observed (B, M) or None for all -> (B, outputs)."""
        total = jnp.where(valid[..., None], x, 0.0).sum(2)
        mean = total / jnp.maximum(valid.sum(2), 1)[..., None]
        flat = h = mean.reshape(x.shape[0], -1)
        linear = nn.Dense(self.outputs, use_bias=False, name="linear")(flat)
        if self.told:
            filled = jnp.zeros(mean.shape[:2]) if observed is None else 1.0 * ~observed
            beside = jnp.concatenate([mean * filled[..., None], filled[..., None]], axis=-1)
            beside = beside.reshape(len(x), -1)
            zeros: dict[str, Any] = {"use_bias": False, "kernel_init": nn.initializers.zeros}
            linear += nn.Dense(self.outputs, name="linear_filled", **zeros)(beside)
        for layer in range(self.layers):
            h = nn.Dense(self.width, name=f"layer_{layer}")(h)
            if self.told and layer == 0:
                h += nn.Dense(self.width, name="layer_filled", **zeros)(beside)
            h = nn.Dropout(self.dropout)(nn.relu(h), deterministic=deterministic)
        return linear + nn.Dense(self.outputs, name="head")(h)
