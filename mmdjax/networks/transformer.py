"""Attention and the pre-norm transformer layer that every network here shares."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmdjax.networks.dropout import Dropout

MASKED = -1e9  # finite: a row with every key masked stays finite instead of NaN


def mask_bias(mask: jax.Array) -> jax.Array:
    """(B, S) bool, True where a key may be attended -> (B, 1, 1, S) added to the logits."""
    return jnp.where(mask, 0.0, MASKED)[:, None, None, :]


def product(a: jax.Array, b: jax.Array, dtype: jnp.dtype | None = None) -> jax.Array:
    """a @ b with operands in `dtype` and the sum in float32; as they come where dtype is None."""
    if dtype is None:
        return a @ b
    return jnp.matmul(a.astype(dtype), b.astype(dtype), preferred_element_type=jnp.float32)


def split_heads(x: jax.Array, heads: int) -> jax.Array:
    """(B, S, W) -> (B, H, S, W / H)."""
    return x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads).swapaxes(-2, -3)


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    bias: jax.Array,
    dropout: Callable[[jax.Array], jax.Array] | None = None,
    dtype: jnp.dtype | None = None,
) -> jax.Array:
    """Softmax attention, heads in front, normalised after the product with the values.

    Both choices are exact: plain batched products, and one division a query instead of one a pair.

    Args:
      query: (B, H, S_q, d).
      key, value: (B, H, S_k, d).
      bias: broadcastable to (B, H, S_q, S_k), from `mask_bias`.
      dropout: None, or a function applied to the unnormalised weights.
      dtype: of the products' operands, see `product`.

    Returns:
      (B, H, S_q, d).
    """
    query = query * query.shape[-1] ** -0.5
    logits = product(query, jnp.swapaxes(key, -1, -2), dtype) + bias
    weights = jnp.exp(logits - jax.lax.stop_gradient(logits.max(-1, keepdims=True)))
    total = weights.sum(-1, keepdims=True)
    if dropout is not None:
        weights = dropout(weights)
    return product(weights, value, dtype) / total


def over_layers(
    body: Callable, layers: int, rngs: tuple[str, ...] = ("params",), **options: Any
) -> Callable[..., Any]:
    """`nn.scan` of one layer's body, so that compile time does not grow with depth.

    Parameters are stacked on a leading axis; `rngs` are split between the layers.
    """
    split = dict.fromkeys(rngs, True)
    return nn.scan(body, variable_axes={"params": 0}, split_rngs=split, length=layers, **options)


class Dense(nn.Module):
    """x W + b, with the product's operands in `dtype` (None: as they come) and a float32 sum."""

    features: int
    dtype: jnp.dtype | None = None
    kernel_init: Callable = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        return product(x, kernel, self.dtype) + bias


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
            weights_drop = lambda w: self.drop_weights(w, deterministic=False)  # noqa: E731
        query = self._heads(self.query(self.attention_norm(target)))
        out = attend(query, *memory, bias, weights_drop, self.dtype)
        out = self.attention_out(out.swapaxes(-2, -3).reshape(target.shape))
        x = target + self.drop(out, deterministic=deterministic)
        y = nn.gelu(self.mlp_in(self.mlp_norm(x)))
        y = self.mlp_out(self.drop(y, deterministic=deterministic))
        return x + self.drop(y, deterministic=deterministic)
