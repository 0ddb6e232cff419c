"""Denoising score matching."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mmdjax.diffusion.predictions import NoiseFn
from mmdjax.diffusion.sde import SDE, perturb


def training_times(key: jax.Array, batch: int, sde: SDE) -> jax.Array:
    """(B,) times in [t_min, t_max], stratified: one in each of B equal parts, in random order.

    Each time is uniform on its own, so the loss keeps its expectation; its variance falls.
    """
    key_offset, key_order = jax.random.split(key)
    u = (jnp.arange(batch) + jax.random.uniform(key_offset, (batch,))) / batch
    return sde.t_min + (sde.t_max - sde.t_min) * jax.random.permutation(key_order, u)


def noise_weight(sde: SDE, t: jax.Array) -> jax.Array:
    """1: the noise is matched, every time counts alike (thesis eq. 5.10): lambda = std^2."""
    return jnp.ones_like(t)


def likelihood_weight(sde: SDE, t: jax.Array) -> jax.Array:
    """g^2 / std^2: lambda = g^2 bounds the likelihood (Song, Durkan et al. 2021, theorem 1)."""
    return (sde.diffusion(t) / sde.marginal(t)[1]) ** 2


def v_weight(sde: SDE, t: jax.Array) -> jax.Array:
    """1 + std^2 / alpha^2: the error in v of `predictions.py` (Salimans & Ho 2022).

    Matching the noise alone leaves E[x(0)] = (x - std noise) / alpha unguarded where alpha is
    small: an error in the noise at t = 1 comes out 1 / alpha(1) = 150 times larger.
    """
    return edm_weight(sde, t)


def edm_weight(sde: SDE, t: jax.Array, data_std: float = 1.0) -> jax.Array:
    """1 + sigma^2 / data_std^2, sigma = std / alpha: lambda of Karras et al. (2022), table 1, which
    weights the error in x(0). For data of unit variance it is `v_weight`."""
    alpha, std = sde.marginal(t)
    return 1 + (std / (alpha * data_std)) ** 2


def min_snr_weight(sde: SDE, t: jax.Array, gamma: float = 5.0) -> jax.Array:
    """min(SNR, gamma) / SNR: Hang et al. (2023), eq. 9, min(SNR, gamma) on the error in x(0)."""
    alpha, std = sde.marginal(t)
    return jnp.minimum(1.0, gamma * (std / alpha) ** 2)


def velocity_weight(sde: SDE, t: jax.Array) -> jax.Array:
    """(g^2 / 2 std)^2: the error in the velocity of the probability flow, which flow matching
    regresses on (Lipman et al. 2023, eq. 14; Liu et al. 2023). 1 / (1 - t)^2 of rectified flow."""
    return (sde.diffusion(t) ** 2 / (2 * sde.marginal(t)[1])) ** 2


def logit_normal_weight(sde: SDE, t: jax.Array) -> jax.Array:
    """The error in the velocity, times the density of a logit-normal time: uniform times with this
    weight have the mean of logit-normal ones without (Esser et al. 2024, section 3.1)."""
    inner = jnp.clip(t, 1e-6, 1 - 1e-6)
    density = jax.scipy.stats.norm.pdf(jax.scipy.special.logit(inner)) / (inner * (1 - inner))
    return velocity_weight(sde, t) * jnp.where((t > 0) & (t < 1), density, 0.0)


# On the squared error of the noise; that of x(0) is std^2 / alpha^2 times as large.
WEIGHTS: dict[str, Callable[[SDE, jax.Array], jax.Array]] = {
    "noise": noise_weight,
    "likelihood": likelihood_weight,
    "v": v_weight,
    "edm": edm_weight,
    "min_snr": min_snr_weight,
    "velocity": velocity_weight,
    "logit_normal": logit_normal_weight,
}


def denoising_score_matching(
    noise_fn: NoiseFn,
    sde: SDE,
    x0: jax.Array,
    mask: jax.Array,
    t: jax.Array,
    noise: jax.Array,
    weight: Callable[[SDE, jax.Array], jax.Array] = noise_weight,
) -> jax.Array:
    """weight || std s + z ||^2 = weight || z - noise_fn ||^2, thesis eq. 5.10.

    Args:
      noise_fn: (x (B, T, D), t (B,)) -> predicted noise (B, T, D); -std times the score.
      sde: forward process.
      x0: (B, T, D) clean target.
      mask: (B, T) bool, frames that count.
      t: (B,).
      noise: (B, T, D) standard normal.
      weight: (sde, t) -> (B,).

    Returns:
      (B,) weighted mean squared error over a sample's valid entries, 0 where it has none.
    """
    predicted = noise_fn(perturb(sde, x0, noise, t), t)
    error = jnp.where(mask[..., None], predicted - noise, 0.0)
    mean = (error**2).sum((1, 2)) / jnp.maximum(mask.sum(1) * x0.shape[-1], 1)
    return weight(sde, t) * mean
