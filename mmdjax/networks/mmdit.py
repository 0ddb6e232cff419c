"""MMDiT in one dimension: target and condition streams with weights and modulations of their own,
joined in every attention.

Source: Esser et al. (2024), "Scaling Rectified Flow Transformers for High-Resolution Image
Synthesis"; thesis 5.1.4, 5.2.5. The time modulates both streams, so nothing of the condition can be
kept between evaluations. Of the last layer the condition stream has keys and values only: the rest
of it would reach no output (0.5 million of the published 8.8 million parameters).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmdjax.networks.attention import attend, mask_bias
from mmdjax.networks.base import Encoded, ScoreNetwork
from mmdjax.networks.modulation import ModulatedLayer, ModulatedOut, TimeEmbedding
from mmdjax.networks.transformer import Dense, over_layers


class JointLayer(nn.Module):
    """One layer of both streams; with `last` only the target comes out."""

    width: int
    heads: int
    mlp: int
    dtype: jnp.dtype | None = None
    last: bool = False

    def setup(self) -> None:
        sizes = (self.width, self.heads, self.mlp, self.dtype)
        self.target = ModulatedLayer(*sizes)
        self.condition = ModulatedLayer(*sizes, keys_only=self.last)

    def __call__(
        self, streams: tuple[jax.Array, jax.Array], c: jax.Array, bias: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """streams: target (B, T, W) and condition (B, S, W); bias over T + S."""
        x, z = streams
        query, key, value, rest = self.target.before(x, c)
        also, also_key, also_value, also_rest = self.condition.before(z, c)
        key, value = jnp.concatenate([key, also_key], 2), jnp.concatenate([value, also_value], 2)
        if also is not None:
            query = jnp.concatenate([query, also], 2)
        attended = attend(query, key, value, bias, dtype=self.dtype)
        frames = x.shape[1]
        x = self.target.after(x, attended[:, :, :frames], rest)
        return x, z if also is None else self.condition.after(z, attended[:, :, frames:], also_rest)


class MMDiT(ScoreNetwork):
    """Its time embedding is `time_features` wide (128 in the thesis)."""

    time_features: int = 128

    def setup(self) -> None:
        normal = nn.initializers.normal(0.02)
        self.position = self.param("position", normal, (self.frames, self.width))
        self.modality = self.param("modality", normal, (self.modalities, self.width))
        features = self.time_features
        self.time = TimeEmbedding(features, features, self.fourier_scale, self.dtype)
        self.target_in, self.condition_in = (Dense(self.width, self.dtype) for _ in range(2))
        sizes = (self.width, self.heads, self.mlp, self.dtype)
        self.stack, self.last = JointLayer(*sizes), JointLayer(*sizes, last=True)
        self.out = ModulatedOut(self.channels, self.dtype)

    def encode(
        self, condition: jax.Array, condition_id: jax.Array, condition_mask: jax.Array
    ) -> Encoded:
        batch, modalities, frames, _ = condition.shape
        z = jnp.where(condition_mask[..., None], condition, 0.0)
        z = self.condition_in(z) + self.position[:frames]
        z = z + self.modality[condition_id][..., None, :]
        tokens = modalities * frames
        z, shown = z.reshape(batch, tokens, self.width), condition_mask.reshape(batch, tokens)
        return Encoded(z, mask=shown)

    def denoise(self, x: jax.Array, t: jax.Array, encoded: Encoded, mask: jax.Array) -> jax.Array:
        x = jnp.where(mask[..., None], x, 0.0)
        x = self.target_in(x) + self.position[: x.shape[1]]
        c = self.time(t)[:, None]
        bias = mask_bias(jnp.concatenate([mask, encoded.mask], axis=1))
        streams = (x, encoded.tokens)
        if self.layers > 1:
            scanned = over_layers(lambda layer, s, _: (layer(s, c, bias), None), self.layers - 1)
            streams, _ = scanned(self.stack, streams, None)
        return self.out(self.last(streams, c, bias)[0], c)
