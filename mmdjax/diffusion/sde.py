"""Forward SDEs dx = f(x, t) dt + g(t) dw, and what follows from their marginals.

x(t) given x(0) is N(alpha(t) x(0), std(t)^2 I). Time runs from 0 (data) to 1 (noise).
Times are scalars or (B,); `expand` puts a (B,) time in front of a (B, ...) state.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

import jax
import jax.numpy as jnp


class SDE(Protocol):
    """What a forward process has to say; everything else is derived from it below."""

    prior_std: float  # std of x(1) that sampling starts from
    t_min: float  # sampling ends here, training starts here: std(0) = 0

    def marginal(self, t) -> tuple[jax.Array, jax.Array]:
        """(alpha, std) at time t."""

    def drift(self, x, t) -> jax.Array:
        """f(x, t)."""

    def diffusion(self, t) -> jax.Array:
        """g(t)."""


@dataclasses.dataclass(frozen=True)
class VP:
    """Variance preserving SDE of Song et al. (2021) with linear beta; thesis eq. 5.7-5.9.

    dx = -1/2 beta(t) x dt + sqrt(beta(t)) dw, beta(t) = beta_min + t (beta_max - beta_min).
    """

    beta_min: float = 0.1
    beta_max: float = 20.0
    t_min: float = 1e-3
    prior_std: float = 1.0

    def beta(self, t):
        return self.beta_min + t * (self.beta_max - self.beta_min)

    def marginal(self, t):
        log_alpha = -0.25 * t**2 * (self.beta_max - self.beta_min) - 0.5 * t * self.beta_min
        return jnp.exp(log_alpha), jnp.sqrt(-jnp.expm1(2 * log_alpha))

    def drift(self, x, t):
        return -0.5 * expand(self.beta(t), x) * x

    def diffusion(self, t):
        return jnp.sqrt(self.beta(t))


REGISTRY = {"vp": VP}


def expand(t, x):
    """Shapes a time-like () or (B,) so that it multiplies x (B, ...)."""
    t = jnp.asarray(t, x.dtype)
    return t.reshape(t.shape + (1,) * (x.ndim - t.ndim))


def perturb(sde: SDE, x0, noise, t):
    """x(t) = alpha x(0) + std noise; x0, noise (B, ...), t () or (B,), as everywhere below."""
    alpha, std = sde.marginal(t)
    return expand(alpha, x0) * x0 + expand(std, x0) * noise


def score_from_noise(sde: SDE, noise, t):
    """score = -noise / std: the score of x(t) from the predicted noise."""
    return -noise / expand(sde.marginal(t)[1], noise)


def noise_from_score(sde: SDE, score, t):
    return -expand(sde.marginal(t)[1], score) * score


def noise_from_velocity(sde: SDE, x, velocity, t):
    """z = alpha v + std x(t) for v = alpha z - std x(0), where alpha^2 + std^2 = 1 (VP)."""
    alpha, std = sde.marginal(t)
    return expand(alpha, x) * velocity + expand(std, x) * x


def clean_from_noise(sde: SDE, x, noise, t):
    """E[x(0) | x(t)] = (x - std noise) / alpha (Tweedie)."""
    alpha, std = sde.marginal(t)
    return (x - expand(std, x) * noise) / expand(alpha, x)


def reverse_drift(sde: SDE, x, score, t):
    """f - g^2 score: drift of the reverse-time SDE (Anderson 1982), to be used with dt < 0."""
    return sde.drift(x, t) - expand(sde.diffusion(t), x) ** 2 * score
