"""adaLN-Zero: transformer layers whose norms are shifted, scaled and gated by a condition.

Source: Peebles & Xie (2023), "Scalable Diffusion Models with Transformers", section 3.2. Gates
start at zero, so an untrained layer is the identity.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmdjax.networks.attention import attend, split_heads
from mmdjax.networks.embeddings import fourier_features, fourier_frequencies
from mmdjax.networks.transformer import Dense, gelu


class TimeEmbedding(nn.Module):
    """t (B,) -> (B, width): Gaussian Fourier features and two dense layers.

    Attributes:
      features, scale: number and standard deviation of the frequencies.
    """

    width: int
    features: int
    scale: float
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, t: jax.Array) -> jax.Array:
        y = fourier_features(t, fourier_frequencies(self.features, self.scale))
        y = nn.silu(Dense(self.width, self.dtype, name="time_in")(y))
        return Dense(self.width, self.dtype, name="time_out")(y)


class Modulation(nn.Module):
    """c (B, T or 1, E) -> `count` arrays (B, T or 1, width), all zero at the start."""

    width: int
    count: int
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, c: jax.Array) -> list[jax.Array]:
        dense = Dense(self.count * self.width, self.dtype, nn.initializers.zeros, name="dense")
        return jnp.split(dense(nn.silu(c)), self.count, axis=-1)


def plain_norm() -> nn.LayerNorm:
    """Without a scale and bias of its own: the modulation has them."""
    return nn.LayerNorm(use_bias=False, use_scale=False)


class ModulatedLayer(nn.Module):
    """A transformer layer in two halves around its attention, which two streams may share.

    Attributes:
      width, heads, mlp: of the layer. dtype: of the operands of every product.
      keys_only: only keys and values are needed of this stream; there is no second half.
    """

    width: int
    heads: int
    mlp: int
    dtype: jnp.dtype | None = None
    keys_only: bool = False

    def setup(self) -> None:
        self.modulation = Modulation(self.width, 2 if self.keys_only else 6, self.dtype)
        self.attention_norm = plain_norm()
        self.key, self.value = (Dense(self.width, self.dtype) for _ in range(2))
        if not self.keys_only:
            self.query, self.attention_out = (Dense(self.width, self.dtype) for _ in range(2))
            self.mlp_norm = plain_norm()
            self.mlp_in, self.mlp_out = Dense(self.mlp, self.dtype), Dense(self.width, self.dtype)

    def __call__(self, x: jax.Array, c: jax.Array, bias: jax.Array) -> jax.Array:
        """x (B, S, W), c (B, S or 1, E), bias over S -> (B, S, W), by attention to itself."""
        query, key, value, rest = self.before(x, c)
        return self.after(x, attend(query, key, value, bias, dtype=self.dtype), rest)

    def before(
        self, x: jax.Array, c: jax.Array
    ) -> tuple[jax.Array | None, jax.Array, jax.Array, list[jax.Array]]:
        """x (B, S, W), c -> query (None with `keys_only`), key, value (B, H, S, d), and what
        `after` needs."""
        shift, scale, *rest = self.modulation(c)
        y = self.attention_norm(x) * (1 + scale) + shift
        query = None if self.keys_only else split_heads(self.query(y), self.heads)
        key, value = (split_heads(dense(y), self.heads) for dense in (self.key, self.value))
        return query, key, value, rest

    def after(self, x: jax.Array, attended: jax.Array, rest: list[jax.Array]) -> jax.Array:
        """x (B, S, W), attended (B, H, S, d) -> (B, S, W)."""
        gate, shift, scale, mlp_gate = rest
        x = x + gate * self.attention_out(attended.swapaxes(-2, -3).reshape(x.shape))
        y = self.mlp_norm(x) * (1 + scale) + shift
        return x + mlp_gate * self.mlp_out(gelu(self.mlp_in(y)))


class ModulatedOut(nn.Module):
    """Norm, modulation and a dense layer to `features`; zero at the start."""

    features: int
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: jax.Array, c: jax.Array) -> jax.Array:
        shift, scale = Modulation(x.shape[-1], 2, self.dtype, name="modulation")(c)
        y = plain_norm()(x) * (1 + scale) + shift
        return Dense(self.features, self.dtype, nn.initializers.zeros, name="out")(y)
