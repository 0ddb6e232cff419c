"""What the score networks have in common: sizes, arguments, and the encoded condition."""

from typing import NamedTuple, Self

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmdjax.networks.embeddings import fourier_features, fourier_frequencies


class Encoded(NamedTuple):
    """The condition as all evaluations of a draw share it; what a network does not need is None.

    Attributes:
      tokens: (B, S, W).
      memory: arrays with their rows on axis 1: keys and values (L, B, H, S, d) of every layer.
      mask: (B, S) bool, tokens that may be attended.
    """

    tokens: jax.Array | None = None
    memory: tuple | None = None
    mask: jax.Array | None = None

    def repeat(self, draws: int) -> Self:
        """Every row `draws` times in a row: several draws share one condition."""
        if draws == 1:
            return self

        def rows(arrays, axis):
            return jax.tree.map(lambda a: jnp.repeat(a, draws, axis), arrays)

        return Encoded(rows(self.tokens, 0), rows(self.memory, 1), rows(self.mask, 0))


class ScoreNetwork(nn.Module):
    """Predicts one modality's latents given those of others. A subclass has `encode` and `denoise`.

    Attributes:
      modalities, frames, channels: M, the largest T, and D.
      width, layers, heads, mlp: of the transformer.
      time_features: number of Gaussian Fourier features of t.
      fourier_scale: standard deviation of their frequencies.
      dtype: of the operands of every product (sums are float32); None: as they come.
    """

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

    @property
    def shares_condition(self) -> bool:
        """Whether encoding a condition costs enough for all draws of a row to share one."""
        return True

    def __call__(
        self,
        x: jax.Array,
        t: jax.Array,
        condition: jax.Array,
        condition_id: jax.Array,
        mask: jax.Array,
        condition_mask: jax.Array,
    ) -> jax.Array:
        """Prediction (B, T, D): `denoise` given `encode`; see there."""
        return self.denoise(x, t, self.encode(condition, condition_id, condition_mask), mask)

    def encode(
        self, condition: jax.Array, condition_id: jax.Array, condition_mask: jax.Array
    ) -> Encoded | None:
        """Compute what depends on the condition alone.

        Args:
          condition: (B, C, T, D) latents of C other modalities.
          condition_id: (C,) or (B, C) int, which modality each of them is.
          condition_mask: (B, C, T) bool, condition frames that are observed; the rest has no
            influence, whatever it holds.
        """

    def denoise(
        self, x: jax.Array, t: jax.Array, encoded: Encoded | None, mask: jax.Array
    ) -> jax.Array:
        """Prediction (B, T, D) of what `diffusion` calls v, velocity, noise, score or clean.

        Args:
          x: (B, T, D) noisy target. T may be less than `frames`: a prefix of the time axis.
          t: (B,) diffusion time.
          encoded: from `encode`.
          mask: (B, T) bool, target frames that exist.
        """

    def embedded_time(self, t: jax.Array) -> jax.Array:
        """The subclass' dense layer `time` on the Fourier features of t (B,), and silu."""
        frequencies = fourier_frequencies(self.time_features, self.fourier_scale)
        return nn.silu(self.time(fourier_features(t, frequencies)))


def sum_over_modalities(kernels: jax.Array, z: jax.Array, condition_id: jax.Array) -> jax.Array:
    """z (B, C, T, F), each condition by its modality's kernel of (M, F, W), summed -> (B, T, W)."""
    own = jnp.broadcast_to(kernels[condition_id], (*z.shape[:2], *kernels.shape[1:]))
    return jnp.einsum("bctd,bcdw->btw", z, own)
