"""ScoreTransformer1D: the thesis' score network (5.1.4, eq. 5.14-5.15), and its cached form.

Target tokens carry the time embedding; condition tokens follow them along the time axis with a
learned modality embedding, masked where unobserved. Defaults are the thesis' (5.2.5): 3.2 million
parameters. Changed: pre-norm layers, learned frame positions (without them frames would be
exchangeable), and a last layer that is computed for the target tokens only (exact).

attention 'joint' is the thesis': all tokens attend to all. With 'prefix' condition tokens attend to
condition tokens only. They carry no time, so their keys and values are the same at every step of a
draw: `encode` computes them once, and an evaluation handles the target's tokens alone. The weights
have the same shapes in both; a network has to be trained the way it is used.
"""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmdjax.networks.embeddings import fourier_features, fourier_frequencies
from mmdjax.networks.transformer import Dense, Layer, mask_bias

ATTENTION = ("joint", "prefix")


class Encoded(NamedTuple):
    """What a draw needs of its condition.

    Attributes:
      tokens: (B, S, W) for 'joint', None for 'prefix'.
      memory: keys and values (L, B, H, S, d) of every layer for 'prefix', None for 'joint'.
      mask: (B, S) tokens that may be attended.
    """

    tokens: jax.Array | None
    memory: tuple[jax.Array, jax.Array] | None
    mask: jax.Array

    def repeat(self, draws: int) -> Encoded:
        """Every row `draws` times in a row: several draws share one condition."""
        if draws == 1:
            return self
        memory = jax.tree.map(lambda a: jnp.repeat(a, draws, axis=1), self.memory)
        tokens = jax.tree.map(lambda a: jnp.repeat(a, draws, axis=0), self.tokens)
        return Encoded(tokens, memory, jnp.repeat(self.mask, draws, axis=0))


class ScoreTransformer1D(nn.Module):
    """Predicts the noise in one modality's latents given those of others.

    Attributes:
      modalities, frames, channels: M, the largest T, and D.
      width, layers, heads, mlp: of the transformer.
      time_features: number of Gaussian Fourier features of t.
      fourier_scale: standard deviation of their frequencies.
      attention: 'joint' or 'prefix', see above.
      patch: frames to a token; divides T. With more than one, the frames' masks are inputs too.
      gaps: conditions may hold frames that are known in part; their id is M larger, see `encode`.
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
    attention: str = "joint"
    patch: int = 1
    gaps: bool = False
    dtype: jnp.dtype | None = None

    def setup(self):
        normal = nn.initializers.normal(0.02)
        shape = (self.frames // self.patch, self.width)
        self.position = self.param("position", normal, shape)
        kinds = self.modalities * (2 if self.gaps else 1)
        self.modality = self.param("modality", normal, (kinds, self.width))
        self.time, self.target_in, self.condition_in = (
            Dense(self.width, self.dtype) for _ in range(3)
        )
        layer = (self.width, self.heads, self.mlp, 0.0, 0.0, self.dtype)
        self.stack, self.last = Layer(*layer), Layer(*layer)
        self.norm = nn.LayerNorm()
        self.out = Dense(self.patch * self.channels, self.dtype)

    def __call__(self, x, t, condition, condition_id, mask, condition_mask):
        """Prediction (B, T, D): `denoise` given `encode`; see there."""
        return self.denoise(x, t, self.encode(condition, condition_id, condition_mask), mask)

    def encode(self, condition, condition_id, condition_mask) -> Encoded | None:
        """What depends on the condition alone; None where there is no condition (C = 0).

        Args:
          condition: (B, C, T, D) latents of C other modalities, C >= 0.
          condition_id: (C,) or (B, C) int, which modality each of them is; or (B, C, T), of every
            frame.
          condition_mask: (B, C, T) bool, condition frames that are observed; the rest has no
            influence, whatever it holds.
        """
        if condition.shape[1] == 0:
            return None
        batch = condition.shape[0]
        z, mask = self._patches(condition, condition_mask)
        z = self.condition_in(z) + self.position[: z.shape[-2]]
        kind = self.modality[condition_id]
        if condition_id.ndim == 3:
            kind = kind.reshape(*z.shape[:3], self.patch, self.width).mean(3)
        else:
            kind = kind[..., None, :]
        z = z + kind
        z, mask = z.reshape(batch, -1, self.width), mask.reshape(batch, -1)
        if self.attention == "joint":
            return Encoded(z, None, mask)
        bias = mask_bias(mask)

        def layer(module, z, _):
            memory = module.remember(z)
            return module(z, memory, bias), memory

        z, memory = self._scan(layer, z, None)
        last = self.last.remember(z)
        memory = jax.tree.map(lambda a, b: jnp.concatenate([a, b[None]]), memory, last)
        return Encoded(None, memory, mask)

    def denoise(self, x, t, encoded: Encoded | None, mask):
        """Prediction (B, T, D) of what `diffusion` calls v, velocity, noise, score or clean.

        Args:
          x: (B, T, D) noisy target. T may be less than `frames`: a prefix of the time axis.
          t: (B,) diffusion time.
          encoded: from `encode`.
          mask: (B, T) bool, target frames that exist.
        """
        z, shown = self._patches(x, mask)
        frequencies = fourier_frequencies(self.time_features, self.fourier_scale)
        time = nn.silu(self.time(fourier_features(t, frequencies)))
        z = self.target_in(z) + self.position[: z.shape[-2]] + time[:, None]
        tokens, cached = z.shape[1], None
        if encoded is not None:
            shown = jnp.concatenate([shown, encoded.mask], axis=1)
            cached = encoded.memory
            if self.attention == "joint":
                z = jnp.concatenate([z, encoded.tokens], axis=1)
        bias = mask_bias(shown)

        def remember(module, z, cached):
            own = module.remember(z)
            if cached is None:
                return own
            return tuple(jnp.concatenate(pair, 2) for pair in zip(own, cached, strict=True))

        def layer(module, z, cached):
            return module(z, remember(module, z, cached), bias), None

        z, _ = self._scan(layer, z, jax.tree.map(lambda a: a[:-1], cached))
        memory = remember(self.last, z, jax.tree.map(lambda a: a[-1], cached))
        z = self.last(z[:, :tokens], memory, bias)
        return self.out(self.norm(z)).reshape(x.shape)

    def _scan(self, layer, z, memory):
        """All layers but the last as one scanned body: compile time does not grow with depth."""
        if self.layers == 1:
            width = self.width // self.heads
            none = jnp.zeros((0, z.shape[0], self.heads, z.shape[1], width), self.dtype or z.dtype)
            return z, (none, none)
        scanned = nn.scan(
            layer,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=self.layers - 1,
        )
        return scanned(self.stack, z, memory)

    def _patches(self, x, mask):
        """x (..., T, D), mask (..., T) -> (..., T / p, features), token mask (..., T / p)."""
        x = jnp.where(mask[..., None], x, 0.0)
        if self.patch == 1:
            return x, mask
        x = jnp.concatenate([x, mask[..., None].astype(x.dtype)], axis=-1)
        tokens = mask.shape[-1] // self.patch
        x = x.reshape(*mask.shape[:-1], tokens, self.patch * x.shape[-1])
        return x, mask.reshape(*mask.shape[:-1], tokens, self.patch).any(-1)
