"""Attention and the pre-norm transformer layer that every network here shares."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmdjax.networks.attention import attend, product, split_heads
from mmdjax.networks.dropout import Dropout

SHALLOW = 4  # layers; see `over_layers`


def over_layers(
    body: Callable, layers: int, rngs: tuple[str, ...] = ("params",), **options: Any
) -> Callable[..., Any]:
    """`nn.scan` of one layer's body, so that compile time does not grow with depth.

    Parameters are stacked on a leading axis; `rngs` are split between the layers. A shallow stack
    is unrolled: a loop copies what its gradient reads into arrays of all layers.
    """
    options |= {"split_rngs": dict.fromkeys(rngs, True), "length": layers}
    unroll = layers if layers <= SHALLOW else 1
    return nn.scan(body, variable_axes={"params": 0}, unroll=unroll, **options)


def gelu(x: jax.Array) -> jax.Array:
    """As `flax.linen.gelu`. Its derivative begins with x again: a tanh costs less than keeping what
    autodiff reads of it."""
    return jax.checkpoint(nn.gelu, prevent_cse=False)(x)


class Dense(nn.Module):
    """x W + b, with the product's operands in `dtype` (None: as they come) and a float32 sum."""

    features: int
    dtype: jnp.dtype | None = None
    kernel_init: Callable = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        # One axis of rows, so that the kernel's gradient is a product of x as it is.
        y = product(x.reshape(-1, x.shape[-1]), kernel, self.dtype) + bias
        return y.reshape(*x.shape[:-1], self.features)


class Layer(nn.Module):
    """Pre-norm transformer layer over an explicit memory of keys and values.

    Self-attention remembers its own input, cross-modal attention another sequence (MulT eq. 4-5;
    both share the norm, as MulT does), and a cached prefix is remembered once and used often.

    Attributes:
      width, heads, mlp: of the layer.
      attention_dropout, dropout: on attention weights, and elsewhere.
      dtype: of the operands of every product, see `product`.
    """

    width: int
    heads: int
    mlp: int
    attention_dropout: float = 0.0
    dropout: float = 0.0
    dtype: jnp.dtype | None = None

    def setup(self) -> None:
        self.attention_norm = nn.LayerNorm()
        self.query, self.key, self.value, self.attention_out = (
            Dense(self.width, self.dtype) for _ in range(4)
        )
        self.mlp_norm = nn.LayerNorm()
        self.mlp_in = Dense(self.mlp, self.dtype)
        self.mlp_out = Dense(self.width, self.dtype)
        self.drop = Dropout(self.dropout)
        self.drop_weights = Dropout(self.attention_dropout)

    def _heads(self, x: jax.Array) -> jax.Array:
        return split_heads(x, self.heads).astype(self.dtype or x.dtype)

    def remember(self, source: jax.Array) -> tuple[jax.Array, jax.Array]:
        """source (B, R, D) -> its keys and values (B, H, R, d)."""
        normed = self.attention_norm(source)
        return self._heads(self.key(normed)), self._heads(self.value(normed))

    def __call__(
        self,
        target: jax.Array,
        memory: tuple[jax.Array, jax.Array],
        bias: jax.Array,
        deterministic: bool = True,
    ) -> jax.Array:
        """target (B, S, D); memory: keys and values (B, H, R, d); bias over R -> (B, S, D)."""
        weights_drop = None
        if self.attention_dropout and not deterministic:
            weights_drop = self.attention_dropout, self.drop_weights.key()
        query = self._heads(self.query(self.attention_norm(target)))
        out = attend(query, *memory, bias, weights_drop, self.dtype)
        out = self.attention_out(out.swapaxes(-2, -3).reshape(target.shape))
        x = target + self.drop(out, deterministic=deterministic)
        y = gelu(self.mlp_in(self.mlp_norm(x)))
        y = self.mlp_out(self.drop(y, deterministic=deterministic))
        return x + self.drop(y, deterministic=deterministic)
