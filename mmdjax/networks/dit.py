"""DiT in one dimension: a transformer over the target's frames, modulated by time and condition.

Source: Peebles & Xie (2023), "Scalable Diffusion Models with Transformers"; thesis 5.1.4, 5.2.5.
There is no attention to the condition: frame i is modulated by frame i of every observed modality,
by their mean over all frames (modalities need not be aligned), and by the time.

At the published sizes it has 5.9 million parameters, not the printed 9.3: the text does not say
where the others are. The printed 0.53 GFLOP a pass are those of a modulation for each frame.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmdjax.networks.attention import mask_bias
from mmdjax.networks.base import Encoded, ScoreNetwork, sum_over_modalities
from mmdjax.networks.modulation import ModulatedLayer, ModulatedOut, TimeEmbedding
from mmdjax.networks.transformer import Dense, over_layers


class DiT(ScoreNetwork):
    """Its encoded tokens (B, T, W) are what the observed modalities say of each frame."""

    def setup(self) -> None:
        normal = nn.initializers.normal(0.02)
        self.position = self.param("position", normal, (self.frames, self.width))
        shape = (self.modalities, 2 * self.channels, self.width)
        self.condition_in = self.param("condition_in", nn.initializers.lecun_normal(), shape)
        self.time = TimeEmbedding(self.width, self.time_features, self.fourier_scale, self.dtype)
        self.target_in = Dense(self.width, self.dtype)
        self.stack = ModulatedLayer(self.width, self.heads, self.mlp, self.dtype)
        self.out = ModulatedOut(self.channels, self.dtype)

    def encode(
        self, condition: jax.Array, condition_id: jax.Array, condition_mask: jax.Array
    ) -> Encoded:
        shown = condition_mask[..., None]
        z = jnp.where(shown, condition, 0.0)
        mean = z.sum(-2, keepdims=True) / jnp.maximum(shown.sum(-2, keepdims=True), 1)
        z = jnp.concatenate([z, jnp.broadcast_to(mean, z.shape)], axis=-1)
        return Encoded(sum_over_modalities(self.condition_in, z, condition_id))

    def denoise(self, x: jax.Array, t: jax.Array, encoded: Encoded, mask: jax.Array) -> jax.Array:
        x = jnp.where(mask[..., None], x, 0.0)
        z = self.target_in(x) + self.position[: x.shape[1]]
        c, bias = self.time(t)[:, None] + encoded.tokens, mask_bias(mask)
        scanned = over_layers(lambda layer, z, _: (layer(z, c, bias), None), self.layers)
        z, _ = scanned(self.stack, z, None)
        return self.out(z, c)
