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

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmdjax.networks.alignment import Conv3
from mmdjax.networks.attention import mask_bias
from mmdjax.networks.base import Encoded, ScoreNetwork, sum_over_modalities
from mmdjax.networks.transformer import Dense, Layer, over_layers


class MaskedGroupNorm(nn.Module):
    """GroupNorm of x (B, T, C), about eight channels a group, whose statistics are those of valid
    frames mask (B, T, 1)."""

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
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

    def setup(self) -> None:
        self.conv = Conv3(self.width, stride=self.stride)
        self.time = Dense(self.width, self.dtype)
        self.norm = MaskedGroupNorm()
        self.condition_in, self.condition_out = (Dense(self.width, self.dtype) for _ in range(2))
        self.nothing = self.param("nothing", nn.initializers.normal(0.02), (1, self.width))
        self.transformer = Layer(self.width, self.heads, self.mlp, dtype=self.dtype)

    def remember(self, condition: jax.Array) -> tuple[jax.Array, jax.Array]:
        """condition (B, T, D) -> keys and values (L, B, H, 1 + T, d) of every layer."""
        z = self.condition_out(nn.silu(self.condition_in(condition)))
        nothing = jnp.broadcast_to(self.nothing, (z.shape[0], 1, self.width))
        z = jnp.concatenate([nothing, z], axis=1)
        body = over_layers(lambda layer, z, _: (z, layer.remember(z)), self.layers)
        return body(self.transformer, z, None)[1]

    def __call__(
        self,
        x: jax.Array,
        mask: jax.Array,
        time: jax.Array,
        memory: tuple[jax.Array, jax.Array],
        bias: jax.Array,
    ) -> jax.Array:
        """x (B, T, C), mask (B, T, 1), time (B, E) -> (B, T / stride, width), zero off the mask."""
        h = self.conv(x * mask) + self.time(time)[:, None]
        mask = mask[:, :: self.stride]
        h = nn.silu(self.norm(h, mask))
        body = over_layers(lambda layer, h, known: (layer(h, known, bias), None), self.layers)
        return body(self.transformer, h, memory)[0] * mask


class UNet(ScoreNetwork):
    """Its encoded memory is that of every level, with the learned token in front: 1 + T keys.

    Attributes:
      width: channels of the deepest of four levels; the others have 1/2, 1/4 and 1/8.
      layers, heads: of the transformer at each level. mlp: its hidden size at the deepest.
    """

    layers: int = 2
    mlp: int = 1024
    fourier_scale: float = 30.0

    def setup(self) -> None:
        def level(divisor: int, stride: int = 1):
            sizes = (self.width // divisor, self.layers, self.heads, self.mlp // divisor)
            return Level(*sizes, stride, self.dtype)

        self.down = [level(8), *(level(divisor, 2) for divisor in (4, 2, 1))]
        self.up = [level(divisor) for divisor in (2, 4, 8, 8)]
        self.time = Dense(self.time_features, self.dtype)
        shape = (self.modalities, self.channels, self.channels)
        self.condition_in = self.param("condition_in", nn.initializers.lecun_normal(), shape)
        self.out = Dense(self.channels, self.dtype)

    def encode(
        self, condition: jax.Array, condition_id: jax.Array, condition_mask: jax.Array
    ) -> Encoded:
        z = jnp.where(condition_mask[..., None], condition, 0.0)
        z = sum_over_modalities(self.condition_in, z, condition_id)
        memory = tuple(level.remember(z) for level in (*self.down, *self.up))
        always = jnp.ones((z.shape[0], 1), bool)
        shown = jnp.concatenate([always, condition_mask.any(1)], axis=1)
        return Encoded(memory=memory, mask=shown)

    def denoise(self, x: jax.Array, t: jax.Array, encoded: Encoded, mask: jax.Array) -> jax.Array:
        time, bias, memory = self.embedded_time(t), mask_bias(encoded.mask), encoded.memory
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
