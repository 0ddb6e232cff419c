"""MulT fusion: pairwise cross-modal transformers, memory transformers, last token, MLP.

Source: Tsai et al. (2019), "Multimodal Transformer for Unaligned Multimodal Language Sequences";
thesis eq. 5.19-5.21. The transformers of all pairs have one architecture, so their parameters are
stacked on a leading axis and run as one batched program.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmdjax.networks.attention import mask_bias
from mmdjax.networks.dropout import Dropout
from mmdjax.networks.embeddings import sinusoidal_positions
from mmdjax.networks.transformer import Layer, over_layers


class Stack(nn.Module):
    """`layers` transformer layers over one source, and a final norm."""

    layers: int
    heads: int
    attention_dropout: float
    dropout: float

    @nn.compact
    def __call__(
        self,
        target: jax.Array,
        source: jax.Array | None,
        source_valid: jax.Array,
        deterministic: bool = True,
    ) -> jax.Array:
        """target (B, S, D); source (B, R, D), or None for self-attention -> (B, S, D)."""
        bias = mask_bias(source_valid)

        def layer(module, target, _):
            # A memory transformer looks at itself: its source moves on with it.
            memory = module.remember(target if source is None else source)
            return module(target, memory, bias, deterministic), None

        width = target.shape[-1]
        sizes = (width, self.heads, 4 * width, self.attention_dropout, self.dropout)
        module = Layer(*sizes, name="layers")
        target, _ = over_layers(layer, self.layers, ("params", "dropout"))(module, target, None)
        return nn.LayerNorm(name="norm")(target)


def stacked(module: type[nn.Module], axis_size: int) -> Callable[..., Any]:
    """The module with parameters and inputs stacked on a leading axis of `axis_size`."""
    return nn.vmap(
        module,
        in_axes=(0, 0, 0, None),
        variable_axes={"params": 0},
        split_rngs={"params": True, "dropout": True},
        axis_size=axis_size,
    )


class MulT(nn.Module):
    """From latents of M >= 2 modalities to `outputs` numbers an utterance.

    Attributes:
      told: the network sees which modalities are not observed, by a vector that is added to their
        frames, 0 at the start.
    """

    layers: int = 4
    heads: int = 8
    attention_dropout: float = 0.2
    dropout: float = 0.1
    outputs: int = 1
    told: bool = False

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        valid: jax.Array,
        deterministic: bool = True,
        observed: jax.Array | None = None,
    ) -> jax.Array:
        """x (B, M, T, D), valid (B, M, T), observed (B, M) or None for all -> (B, outputs)."""
        batch, modalities, frames, width = x.shape

        def drop(y):
            return Dropout(self.dropout)(y, deterministic=deterministic)

        positions = sinusoidal_positions(frames, width)
        x = x * width**0.5 + positions
        if self.told:
            filled = self.param("filled", nn.initializers.zeros, (modalities, width))
            if observed is not None:
                x += jnp.where(observed[..., None], 0.0, filled)[:, :, None]
        x = drop(jnp.where(valid[..., None], x, 0.0))
        targets, sources = np.nonzero(~np.eye(modalities, dtype=bool))
        x, valid = jnp.moveaxis(x, 1, 0), jnp.moveaxis(valid, 1, 0)
        sizes = (self.layers, self.heads, self.attention_dropout, self.dropout)
        cross = stacked(Stack, len(targets))(*sizes, name="cross")(
            x[targets], x[sources], valid[sources], deterministic
        )
        # (pairs, B, T, D) -> (M, B, T, (M - 1) D): what each modality took from the others.
        joined = cross.reshape(modalities, modalities - 1, batch, frames, width)
        joined = jnp.moveaxis(joined, 1, 3).reshape(modalities, batch, frames, -1)
        memory = stacked(Stack, modalities)(*sizes, name="memory")(
            joined, None, valid, deterministic
        )
        last = jnp.maximum(frames - 1 - jnp.argmax(valid[..., ::-1], axis=-1), 0)
        token = jnp.take_along_axis(memory, last[..., None, None], axis=2)[:, :, 0]
        h = jnp.moveaxis(token, 0, 1).reshape(batch, -1)
        y = nn.Dense(h.shape[-1], name="mlp_in")(h)
        h = h + nn.Dense(h.shape[-1], name="mlp_out")(drop(nn.relu(y)))
        return nn.Dense(self.outputs, name="head")(h)
