"""U-Net with cross-attention: IMDer's score network.

Source: Wang et al. (2023), "Incomplete Multimodality-Diffused Emotion Recognition", with channels
32-64-128-256, strides 1-2-2-2, one dense layer of the time's Fourier features added at each level,
GroupNorm, swish, skip connections, and at each of eight levels a transformer whose keys and values
are the condition; thesis 5.1.4, 5.2.5. IMDer joins its two conditions by a 1x1 convolution over
both; here every modality has its part of that convolution and what is observed is summed, so that
any number may be present. The condition carries no time: keys and values are computed once a draw.

Changed: convolutions are padded; normalisation reads valid frames only; upsampling repeats frames
before a convolution of the same size instead of transposing one; every attention also sees a
learned token that is always there, for rows without any condition; the division by std is outside
(`diffusion/predictions.py`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmdjax.networks.alignment import Conv3
from mmdjax.networks.embeddings import fourier_features, fourier_frequencies
from mmdjax.networks.transformer import Dense, Layer, mask_bias


class Encoded(NamedTuple):
    """memory: level -> keys and values (L, B, H, 1 + T, d) of its layers; mask (B, 1 + T)."""

    memory: tuple
    mask: jax.Array

    def repeat(self, draws: int) -> Encoded:
        if draws == 1:
            return self
        memory = jax.tree.map(lambda a: jnp.repeat(a, draws, axis=1), self.memory)
        return Encoded(memory, jnp.repeat(self.mask, draws, axis=0))


class MaskedGroupNorm(nn.Module):
    """GroupNorm of x (B, T, C), about eight channels a group, whose statistics are those of valid
    frames mask (B, T, 1)."""

    @nn.compact
    def __call__(self, x, mask):
        batch, frames, channels = x.shape
        y = x.reshape(batch, frames, math.gcd(max(channels // 8, 1), channels), -1)
        weight = mask[..., None]
        count = jnp.maximum(weight.sum(1, keepdims=True), 1.0) * y.shape[-1]
        mean = (y * weight).sum((1, 3), keepdims=True) / count
        var = ((y - mean) ** 2 * weight).sum((1, 3), keepdims=True) / count
        y = ((y - mean) * jax.lax.rsqrt(var + 1e-5)).reshape(x.shape)
        scale = self.param("scale", nn.initializers.ones, (channels,))
        return y * scale + self.param("bias", nn.initializers.zeros, (channels,))


class Level(nn.Module):
    """Convolution, time, norm, swish, and a transformer that looks at the condition."""

    width: int
    layers: int
    heads: int
    mlp: int
    stride: int = 1
    dtype: jnp.dtype | None = None

    def setup(self):
        self.conv = Conv3(self.width, stride=self.stride)
        self.time = Dense(self.width, self.dtype)
        self.norm = MaskedGroupNorm()
        self.condition_in, self.condition_out = (Dense(self.width, self.dtype) for _ in range(2))
        self.nothing = self.param("nothing", nn.initializers.normal(0.02), (1, self.width))
        sizes = (self.width, self.heads, self.mlp, 0.0, 0.0, self.dtype)
        self.transformer = Layer(*sizes)

    def remember(self, condition):
        """condition (B, T, D) -> keys and values (L, B, H, 1 + T, d) of every layer."""
        z = self.condition_out(nn.silu(self.condition_in(condition)))
        nothing = jnp.broadcast_to(self.nothing, (z.shape[0], 1, self.width))
        z = jnp.concatenate([nothing, z], axis=1)
        return self._scan(lambda layer, z, _: (z, layer.remember(z)), z, None)[1]

    def __call__(self, x, mask, time, memory, bias):
        """x (B, T, C), mask (B, T, 1), time (B, E) -> (B, T / stride, width), zero off the mask."""
        h = self.conv(x * mask) + self.time(time)[:, None]
        mask = mask[:, :: self.stride]
        h = nn.silu(self.norm(h, mask))
        h, _ = self._scan(lambda layer, h, known: (layer(h, known, bias), None), h, memory)
        return h * mask

    def _scan(self, body, carry, memory):
        """All layers of the level as one scanned body, for quicker compiling."""
        return nn.scan(
            body, variable_axes={"params": 0}, split_rngs={"params": True}, length=self.layers
        )(self.transformer, carry, memory)


class UNet(nn.Module):
    """`encode` and `denoise`: see `score_transformer.py`.

    Attributes:
      width: channels of the deepest of four levels; the others have 1/2, 1/4 and 1/8.
      layers, heads: of the transformer at each level. mlp: its hidden size at the deepest.
      time_features, fourier_scale: number of Fourier features of t, deviation of frequencies.
    """

    modalities: int
    frames: int = 48
    channels: int = 32
    width: int = 256
    layers: int = 2
    heads: int = 8
    mlp: int = 1024
    time_features: int = 256
    fourier_scale: float = 30.0
    dtype: jnp.dtype | None = None

    def setup(self):
        def level(divisor: int, stride: int = 1):
            sizes = (self.width // divisor, self.layers, self.heads, self.mlp // divisor)
            return Level(*sizes, stride, self.dtype)

        self.down = [level(8), *(level(divisor, 2) for divisor in (4, 2, 1))]
        self.up = [level(divisor) for divisor in (2, 4, 8, 8)]
        self.time = Dense(self.time_features, self.dtype)
        shape = (self.modalities, self.channels, self.channels)
        self.condition_in = self.param("condition_in", nn.initializers.lecun_normal(), shape)
        self.out = Dense(self.channels, self.dtype)

    def __call__(self, x, t, condition, condition_id, mask, condition_mask):
        return self.denoise(x, t, self.encode(condition, condition_id, condition_mask), mask)

    def encode(self, condition, condition_id, condition_mask) -> Encoded:
        z = jnp.where(condition_mask[..., None], condition, 0.0)
        kernels = jnp.broadcast_to(
            self.condition_in[condition_id], (*condition.shape[:2], *self.condition_in.shape[1:])
        )
        z = jnp.einsum("bctd,bcde->bte", z, kernels)
        memory = tuple(level.remember(z) for level in (*self.down, *self.up))
        always = jnp.ones((z.shape[0], 1), bool)
        return Encoded(memory, jnp.concatenate([always, condition_mask.any(1)], axis=1))

    def denoise(self, x, t, encoded: Encoded, mask):
        frequencies = fourier_frequencies(self.time_features, self.fourier_scale)
        time = nn.silu(self.time(fourier_features(t, frequencies)))
        bias, memory = mask_bias(encoded.mask), encoded.memory
        h, shown, kept = jnp.where(mask[..., None], x, 0.0), mask[..., None].astype(x.dtype), []
        for level, known in zip(self.down, memory[:4], strict=True):
            h = level(h, shown, time, known, bias)
            shown = shown[:, :: level.stride]
            kept.append((h, shown))
        for index, (level, known) in enumerate(zip(self.up, memory[4:], strict=True)):
            if index:
                h = jnp.concatenate([h, kept[3 - index][0]], axis=-1)
            if index < 3:  # to the length of the next level
                shown = kept[2 - index][1]
                h = jnp.repeat(h, 2, axis=1)[:, : shown.shape[1]]
            h = level(h, shown, time, known, bias)
        return self.out(h)
