"""ScoreTransformer1D: the thesis' score network (5.1.4, eq. 5.14-5.15).

Target tokens carry the time embedding; condition tokens are concatenated along the time axis with
a learned modality embedding and masked where unobserved. Defaults are the thesis' (5.2.5):
3.2 million parameters. Changed: pre-norm layers, learned frame positions (without them frames
would be exchangeable), and a last layer that is computed for the target tokens only (exact).
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from mmdjax.networks.embeddings import fourier_features, fourier_frequencies
from mmdjax.networks.transformer import Layer, mask_bias


class ScoreTransformer1D(nn.Module):
    """Predicts the noise in one modality's latents given those of others.

    Attributes:
      modalities, frames: M and the largest T, for the embedding tables.
      width, layers, heads, mlp: of the transformer.
      time_features: number of Gaussian Fourier features of t.
      fourier_scale: standard deviation of their frequencies.
    """

    modalities: int
    frames: int = 48
    width: int = 256
    layers: int = 6
    heads: int = 8
    mlp: int = 512
    time_features: int = 256
    fourier_scale: float = 16.0

    @nn.compact
    def __call__(self, x, t, condition, condition_id, mask, condition_mask):
        """Noise prediction (B, T, D).

        Args:
          x: (B, T, D) noisy target. T may be less than `frames`: a prefix of the time axis.
          t: (B,) diffusion time.
          condition: (B, C, T, D) clean latents of C other modalities, C >= 0.
          condition_id: (C,) or (B, C) int, which modality each of them is.
          mask: (B, T) bool, target frames that exist.
          condition_mask: (B, C, T) bool, condition frames that are observed; the rest has no
            influence, whatever it holds.
        """
        batch, frames, channels = x.shape
        normal = nn.initializers.normal(0.02)
        position = self.param("position", normal, (self.frames, self.width))[:frames]
        modality = self.param("modality", normal, (self.modalities, self.width))

        frequencies = fourier_frequencies(self.time_features, self.fourier_scale)
        time = nn.Dense(self.width, name="time")(fourier_features(t, frequencies))
        target = nn.Dense(self.width, name="target_in")(jnp.where(mask[..., None], x, 0.0))
        target = target + position + nn.silu(time)[:, None]

        condition = jnp.where(condition_mask[..., None], condition, 0.0)
        condition = nn.Dense(self.width, name="condition_in")(condition)
        condition = condition + position + modality[condition_id][..., None, :]
        z = jnp.concatenate([target, condition.reshape(batch, -1, self.width)], axis=1)
        bias = mask_bias(jnp.concatenate([mask, condition_mask.reshape(batch, -1)], axis=1))

        if self.layers > 1:  # one scanned body: compile time does not grow with depth
            body = nn.scan(
                lambda layer, z, _: (layer(z, z, bias), None),
                variable_axes={"params": 0},
                split_rngs={"params": True},
                length=self.layers - 1,
            )
            z, _ = body(Layer(self.heads, self.mlp, name="layers"), z, None)
        target = Layer(self.heads, self.mlp, name="last_layer")(z[:, :frames], z, bias)
        return nn.Dense(channels, name="out")(nn.LayerNorm(name="norm")(target))
