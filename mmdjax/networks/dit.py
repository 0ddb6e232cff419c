"""DiT in one dimension: a transformer over the target's frames, modulated by time and condition.

Source: Peebles & Xie (2023), "Scalable Diffusion Models with Transformers"; thesis 5.1.4, 5.2.5.
There is no attention to the condition: frame i is modulated by frame i of every observed modality,
by their mean over all frames (modalities need not be aligned), and by the time.

At the published sizes it has 5.9 million parameters, not the printed 9.3: the text does not say
where the others are. The printed 0.53 GFLOP a pass are those of a modulation for each frame.
"""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmdjax.networks.modulation import ModulatedLayer, ModulatedOut, TimeEmbedding
from mmdjax.networks.transformer import Dense, attend, mask_bias


class Encoded(NamedTuple):
    """frames (B, T, W): what the observed modalities say of each frame."""

    frames: jax.Array

    def repeat(self, draws: int) -> Encoded:
        return Encoded(jnp.repeat(self.frames, draws, axis=0)) if draws > 1 else self


class DiT(nn.Module):
    """Attributes, `encode` and `denoise`: see `score_transformer.py`."""

    modalities: int
    frames: int = 48
    channels: int = 32
    width: int = 256
    layers: int = 6
    heads: int = 8
    mlp: int = 512
    time_features: int = 256
    fourier_scale: float = 16.0
    dtype: jnp.dtype | None = None

    def setup(self):
        normal = nn.initializers.normal(0.02)
        self.position = self.param("position", normal, (self.frames, self.width))
        shape = (self.modalities, 2 * self.channels, self.width)
        self.condition_in = self.param("condition_in", nn.initializers.lecun_normal(), shape)
        self.time = TimeEmbedding(self.width, self.time_features, self.fourier_scale, self.dtype)
        self.target_in = Dense(self.width, self.dtype)
        self.stack = ModulatedLayer(self.width, self.heads, self.mlp, self.dtype)
        self.out = ModulatedOut(self.channels, self.dtype)

    def __call__(self, x, t, condition, condition_id, mask, condition_mask):
        return self.denoise(x, t, self.encode(condition, condition_id, condition_mask), mask)

    def encode(self, condition, condition_id, condition_mask) -> Encoded:
        shown = condition_mask[..., None]
        z = jnp.where(shown, condition, 0.0)
        mean = z.sum(-2, keepdims=True) / jnp.maximum(shown.sum(-2, keepdims=True), 1)
        z = jnp.concatenate([z, jnp.broadcast_to(mean, z.shape)], axis=-1)
        kernels = jnp.broadcast_to(
            self.condition_in[condition_id], (*condition.shape[:2], *self.condition_in.shape[1:])
        )
        return Encoded(jnp.einsum("bctd,bcdw->btw", z, kernels))

    def denoise(self, x, t, encoded: Encoded, mask):
        x = jnp.where(mask[..., None], x, 0.0)
        z = self.target_in(x) + self.position[: x.shape[1]]
        c, bias = self.time(t)[:, None] + encoded.frames, mask_bias(mask)

        def layer(module, z, _):
            query, key, value, rest = module.before(z, c)
            attended = attend(query, key, value, bias, dtype=self.dtype)
            return module.after(z, attended, rest), None

        scanned = nn.scan(
            layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=self.layers
        )
        z, _ = scanned(self.stack, z, None)
        return self.out(z, c)
