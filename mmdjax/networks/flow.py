"""Normalising flows of latent frames: Glow's steps (Kingma & Dhariwal 2018) over channels.

A step is an activation normalisation, an invertible 1x1 convolution, that is one matrix for all
frames, and an affine coupling. The matrix is kept as P L U S, with the fixed permutation P that
reverses channels, unit triangular L and U and a positive diagonal S, of which its determinant is
the product; at the start it is P. A coupling multiplies by 1/2 to 1: without a lower bound
(Glow has none) the inverse overflows where it is asked for what no forward pass has given.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmdjax.types import Params

SHIFT = 2.0  # couplings start as multiplication by (1 + sigmoid(2)) / 2 = 0.94


class Step(nn.Module):
    """One invertible step of x (..., D).

    Attributes:
      channels: D, at least 2.
      hidden: width of the coupling's two hidden layers.
      mixes: False leaves out normalisation and matrix, so that the first half of the channels
        stays as it is in every step.
    """

    channels: int
    hidden: int = 64
    mixes: bool = True

    def setup(self) -> None:
        shape, zeros = (self.channels,), nn.initializers.zeros
        self.bias = self.param("bias", zeros, shape)
        self.log_scale = self.param("log_scale", zeros, shape)
        self.lower = self.param("lower", zeros, shape * 2)
        self.upper = self.param("upper", zeros, shape * 2)
        self.log_diagonal = self.param("log_diagonal", zeros, shape)
        self.layers = [nn.Dense(self.hidden) for _ in range(2)]
        moved = self.channels - self.channels // 2
        self.out = nn.Dense(2 * moved, kernel_init=zeros)

    def triangles(self) -> tuple[jax.Array, jax.Array]:
        """Return L and U without their diagonals, which are ones."""
        return jnp.tril(self.lower, -1), jnp.triu(self.upper, 1)

    def coupling(self, kept: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return log scale and shift of the other channels."""
        h = kept
        for layer in self.layers:
            h = nn.relu(layer(h))
        log_scale, shift = jnp.split(self.out(h), 2, axis=-1)
        return jnp.log((1 + nn.sigmoid(log_scale + SHIFT)) / 2), shift

    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return y (..., D), and the logarithm (...) of the absolute determinant of dy / dx."""
        fixed = 0.0
        if self.mixes:
            lower, upper = self.triangles()
            x = ((x + self.bias) * jnp.exp(self.log_scale))[..., ::-1]
            x = x + exact(x, lower)
            x = (x + exact(x, upper)) * jnp.exp(self.log_diagonal)
            fixed = self.log_scale.sum() + self.log_diagonal.sum()
        kept, moved = jnp.split(x, [self.channels // 2], axis=-1)
        log_scale, shift = self.coupling(kept)
        y = jnp.concatenate([kept, (moved + shift) * jnp.exp(log_scale)], axis=-1)
        return y, fixed + log_scale.sum(-1)

    def inverse(self, y: jax.Array) -> jax.Array:
        """Return x (..., D) of y."""
        kept, moved = jnp.split(y, [self.channels // 2], axis=-1)
        log_scale, shift = self.coupling(kept)
        x = jnp.concatenate([kept, moved * jnp.exp(-log_scale) - shift], axis=-1)
        if not self.mixes:
            return x
        lower, upper = self.triangles()
        x = x * jnp.exp(-self.log_diagonal)
        x = exact(exact(x, unit_inverse(upper)), unit_inverse(lower))[..., ::-1]
        return x * jnp.exp(-self.log_scale) - self.bias


def exact(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return a product in full float32, so that an inverse is one on every device."""
    return jnp.matmul(a, b, precision="highest")


def unit_inverse(triangle: jax.Array) -> jax.Array:
    """Return the inverse of I + N, for a strictly triangular N (D, D).

    N is nilpotent, so that the series of (-N)^k ends; it is (I - N)(I + N^2)(I + N^4) ..., in
    products alone, which are faster than triangular systems inside a loop.
    """
    power, identity = -triangle, jnp.eye(len(triangle))
    result, reach = identity + power, 2
    while reach < len(triangle):
        power = exact(power, power)
        result, reach = exact(result, identity + power), 2 * reach
    return result


def init(step: Step, steps: int, key: jax.Array) -> Params:
    """Return the parameters of a flow, stacked over its steps."""
    x = jnp.zeros((1, step.channels))
    return jax.vmap(lambda k: step.init(k, x))(jax.random.split(key, steps))


def forward(step: Step, params: Params, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return z (..., D) of x, and the logarithm (...) of the absolute determinant of dz / dx."""

    def body(carry, params):
        y, more = step.apply(params, carry[0])
        return (y, carry[1] + more), None

    return jax.lax.scan(body, (x, jnp.zeros(x.shape[:-1])), params)[0]


def inverse(step: Step, params: Params, z: jax.Array) -> jax.Array:
    """Return x (..., D) of z."""
    body = lambda y, params: (step.apply(params, y, method="inverse"), None)  # noqa: E731
    return jax.lax.scan(body, z, params, reverse=True)[0]
