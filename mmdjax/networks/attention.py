"""Softmax attention with the heads in front, and a derivative that suits small products."""

import functools

import jax
import jax.numpy as jnp

from mmdjax.networks.dropout import dropped

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
    dropout: tuple[float, jax.Array] | None = None,
    dtype: jnp.dtype | None = None,
) -> jax.Array:
    """Softmax attention, heads in front, normalised after the product with the values.

    Both choices are exact: plain batched products, and one division a query instead of one a pair.
    The derivative is written out, for reverse mode only: what autodiff makes of it keeps several
    arrays of S_q x S_k a head, and multiplies transposed ones, which is slow on a CPU.

    Args:
      query: (B, H, S_q, d).
      key, value: (B, H, S_k, d).
      bias: broadcastable to (B, H, S_q, S_k), from `mask_bias`.
      dropout: None, or the rate and the key of `dropped` for the weights.
      dtype: of the products' operands, see `product`.

    Returns:
      (B, H, S_q, d).
    """
    rate, noise = dropout or (0.0, None)
    return _attended(query, key, value, bias, noise, rate, dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def _attended(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    bias: jax.Array,
    noise: jax.Array | None,
    rate: float,
    dtype: jnp.dtype | None,
) -> jax.Array:
    return _forward(query, key, value, bias, noise, rate, dtype)[0]


def _forward(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    bias: jax.Array,
    noise: jax.Array | None,
    rate: float,
    dtype: jnp.dtype | None,
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    query = query * query.shape[-1] ** -0.5
    logits = product(query, jnp.swapaxes(key, -1, -2), dtype) + bias
    weights = jnp.exp(logits - logits.max(-1, keepdims=True))
    total = weights.sum(-1, keepdims=True) * (1 - rate)
    kept = weights
    if rate:
        # The sign keeps the mask, so that one array is all that the derivative needs.
        weights = jnp.where(dropped(noise, weights.shape, rate), -weights, weights)
        kept = jnp.maximum(weights, 0.0)
    out = product(kept, value, dtype) / total
    return out, (query, key, value, bias, weights, total, out)


def _backward(
    rate: float,
    dtype: jnp.dtype | None,
    saved: tuple[jax.Array, ...],
    gradient: jax.Array,
) -> tuple[jax.Array | None, ...]:
    query, key, value, bias, weights, total, out = saved
    gradient = gradient / total
    through_total = (gradient * out).sum(-1, keepdims=True) * (1 - rate)
    # The total is positive: the choice changes nothing but what XLA:CPU fuses, which would write
    # this number of a query out for every pair.
    through_total = jnp.where(total > 0, through_total, 0.0)
    into = gradient @ jnp.swapaxes(value, -1, -2).astype(gradient.dtype) - through_total
    kept = weights
    if rate:
        kept, into = jnp.maximum(weights, 0.0), jnp.where(weights > 0, into, through_total)
    logits = weights * into
    # Products are fastest with the large operand on the right and not transposed; without a barrier
    # XLA turns them round.
    columns = (jnp.swapaxes(a, -1, -2).astype(logits.dtype) for a in (query, gradient))
    query_columns, gradient_columns = jax.lax.optimization_barrier(tuple(columns))
    by_query = logits @ key.astype(logits.dtype) * query.shape[-1] ** -0.5
    by_key = jnp.swapaxes(query_columns @ logits, -1, -2)
    by_value = jnp.swapaxes(gradient_columns @ kept, -1, -2)
    gradients = by_query.astype(query.dtype), by_key.astype(key.dtype), by_value.astype(value.dtype)
    return (*gradients, _summed(logits, bias.shape).astype(bias.dtype), None)


def _summed(x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Sum x over the axes along which an array of a shape is broadcast to it."""
    x = x.sum(range(x.ndim - len(shape)))
    axes = tuple(i for i, size in enumerate(shape) if size == 1 and x.shape[i] != 1)
    return x.sum(axes, keepdims=True)


_attended.defvjp(_forward, _backward)
