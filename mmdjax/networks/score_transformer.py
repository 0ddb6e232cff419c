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

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmdjax.networks.attention import mask_bias
from mmdjax.networks.base import Encoded, ScoreNetwork
from mmdjax.networks.transformer import Dense, Layer, over_layers

ATTENTION = ("joint", "prefix")


class ScoreTransformer1D(ScoreNetwork):
    """Its encoded condition has tokens for 'joint', memory for 'prefix'.

    Attributes:
      attention: 'joint' or 'prefix', see above.
      patch: frames to a token; divides T. With more than one, the frames' masks are inputs too.
      gaps: conditions may hold frames that are known in part; their id is M larger, see `encode`.
      levels: rows of an embedding beside that of time, zero at the start, by which a network learns
        steps of several lengths; 0 for none.
    """

    attention: str = "joint"
    patch: int = 1
    gaps: bool = False
    levels: int = 0

    def setup(self) -> None:
        normal = nn.initializers.normal(0.02)
        shape = (self.frames // self.patch, self.width)
        self.position = self.param("position", normal, shape)
        kinds = self.modalities * (2 if self.gaps else 1)
        self.modality = self.param("modality", normal, (kinds, self.width))
        if self.levels:
            zeros = nn.initializers.zeros
            self.level = self.param("level", zeros, (self.levels, self.width))
        self.time, self.target_in, self.condition_in = (
            Dense(self.width, self.dtype) for _ in range(3)
        )
        self.stack, self.last = (
            Layer(self.width, self.heads, self.mlp, dtype=self.dtype) for _ in range(2)
        )
        self.norm = nn.LayerNorm()
        self.out = Dense(self.patch * self.channels, self.dtype)

    @property
    def shares_condition(self) -> bool:
        """Joint attention reads the condition at every evaluation; its encoding is one product."""
        return self.attention != "joint"

    def encode(
        self, condition: jax.Array, condition_id: jax.Array, condition_mask: jax.Array
    ) -> Encoded | None:
        """See `ScoreNetwork.encode`; None where there is no condition (C = 0).

        condition_id may also be (B, C, T), of every frame.
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

    def denoise(
        self, x: jax.Array, t: jax.Array, encoded: Encoded | None, mask: jax.Array, level: int = 0
    ) -> jax.Array:
        """See `ScoreNetwork.denoise`; level: a row of the embedding, where there is one."""
        z, shown = self._patches(x, mask)
        z = self.target_in(z) + self.position[: z.shape[-2]] + self.embedded_time(t)[:, None]
        if self.levels:
            z = z + self.level[level]
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

    def _scan(self, layer: Callable, z: jax.Array, memory: Any) -> tuple[jax.Array, Any]:
        """Run all layers but the last as one scanned body."""
        if self.layers == 1:
            width = self.width // self.heads
            none = jnp.zeros((0, z.shape[0], self.heads, z.shape[1], width), self.dtype or z.dtype)
            return z, (none, none)
        return over_layers(layer, self.layers - 1)(self.stack, z, memory)

    def _patches(self, x: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
        """x (..., T, D), mask (..., T) -> (..., T / p, features), token mask (..., T / p)."""
        x = jnp.where(mask[..., None], x, 0.0)
        if self.patch == 1:
            return x, mask
        x = jnp.concatenate([x, mask[..., None].astype(x.dtype)], axis=-1)
        tokens = mask.shape[-1] // self.patch
        x = x.reshape(*mask.shape[:-1], tokens, self.patch * x.shape[-1])
        return x, mask.reshape(*mask.shape[:-1], tokens, self.patch).any(-1)
