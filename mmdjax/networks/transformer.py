"""Attention and the pre-norm transformer layer that every network here shares."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

MASKED = -1e9  # finite: a row with every key masked stays finite instead of NaN


def mask_bias(mask: jax.Array) -> jax.Array:
    """(B, S) bool, True where a key may be attended -> (B, 1, 1, S) added to the logits."""
    return jnp.where(mask, 0.0, MASKED)[:, None, None, :]


def attend(query, key, value, bias, dropout=None):
    """Softmax attention, heads in front, normalised after the product with the values.

    Both choices are exact and almost halve the time of a CPU pass against the usual einsum.

    Args:
      query: (B, H, S_q, d).
      key, value: (B, H, S_k, d).
      bias: broadcastable to (B, H, S_q, S_k), from `mask_bias`.
      dropout: None, or a function applied to the unnormalised weights.

    Returns:
      (B, H, S_q, d).
    """
    logits = query @ jnp.swapaxes(key, -1, -2) * query.shape[-1] ** -0.5 + bias
    weights = jnp.exp(logits - jax.lax.stop_gradient(logits.max(-1, keepdims=True)))
    total = weights.sum(-1, keepdims=True)
    if dropout is not None:
        weights = dropout(weights)
    return (weights @ value) / total


class Attention(nn.Module):
    """Multi-head attention: `target` (B, S, D) looks at `source` (B, R, D)."""

    heads: int
    dropout: float = 0.0

    @nn.compact
    def __call__(self, target, source, bias, deterministic: bool = True):
        width = target.shape[-1]

        def project(name, x):
            y = nn.Dense(width, name=name)(x)
            return y.reshape(*y.shape[:-1], self.heads, width // self.heads).swapaxes(-2, -3)

        drop = None
        if self.dropout and not deterministic:
            drop = nn.Dropout(self.dropout, deterministic=False)
        out = attend(
            project("query", target), project("key", source), project("value", source), bias, drop
        )
        out = out.swapaxes(-2, -3).reshape(target.shape)
        return nn.Dense(width, name="out")(out)


class Layer(nn.Module):
    """Pre-norm transformer layer; cross-modal where `source` is another sequence (MulT eq. 4-5)."""

    heads: int
    mlp: int
    attention_dropout: float = 0.0
    dropout: float = 0.0

    @nn.compact
    def __call__(self, target, source, bias, deterministic: bool = True):
        """target (B, S, D), source (B, R, D), bias from `mask_bias` over R -> (B, S, D)."""

        def drop(x):
            return nn.Dropout(self.dropout)(x, deterministic=deterministic)

        norm = nn.LayerNorm(name="attention_norm")
        # Self-attention normalises once; cross-attention shares the norm, as MulT does.
        normed = norm(target)
        memory = normed if source is target else norm(source)
        attention = Attention(self.heads, self.attention_dropout, name="attention")
        x = target + drop(attention(normed, memory, bias, deterministic))
        y = nn.Dense(self.mlp, name="mlp_in")(nn.LayerNorm(name="mlp_norm")(x))
        y = nn.Dense(x.shape[-1], name="mlp_out")(drop(nn.gelu(y)))
        return x + drop(y)
