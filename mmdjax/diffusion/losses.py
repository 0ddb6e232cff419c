"""Denoising score matching."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from mmdjax.diffusion.sde import SDE, perturb


def training_times(key, batch: int, sde: SDE):
    """(B,) times in [t_min, 1], stratified: one in each of B equal parts, in random order.

    Each time is uniform on its own, so the loss keeps its expectation; its variance falls.
    """
    key_offset, key_order = jax.random.split(key)
    u = (jnp.arange(batch) + jax.random.uniform(key_offset, (batch,))) / batch
    return sde.t_min + (1 - sde.t_min) * jax.random.permutation(key_order, u)


def denoising_score_matching(noise_fn, sde: SDE, x0, mask, t, noise):
    """|| std s + z ||^2 = || z - noise_fn ||^2, thesis eq. 5.10 and 5.13, mean over valid entries.

    Args:
      noise_fn: (x (B, T, D), t (B,)) -> predicted noise (B, T, D); -std times the score.
      sde: forward process.
      x0: (B, T, D) clean target.
      mask: (B, T) bool, frames that count.
      t: (B,).
      noise: (B, T, D) standard normal.

    Returns:
      (B,) mean squared error over a sample's valid entries, 0 where it has none.
    """
    predicted = noise_fn(perturb(sde, x0, noise, t), t)
    error = jnp.where(mask[..., None], predicted - noise, 0.0)
    return (error**2).sum((1, 2)) / jnp.maximum(mask.sum(1) * x0.shape[-1], 1)
