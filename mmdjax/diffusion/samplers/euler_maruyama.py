"""Euler-Maruyama on the reverse-time SDE: Song et al. (2021), eq. 6.

One evaluation a step; weak order 1. Backwards in time dt < 0, so the score's term is added.
The thesis' Algorithm 1 subtracts it and drops the drift; both are mended here.
"""

from __future__ import annotations

import jax.numpy as jnp

from mmdjax.diffusion.samplers.registry import Sampler, normal_like, register
from mmdjax.diffusion.sde import reverse_drift, score_from_noise


@register("euler_maruyama")
def euler_maruyama(sde, noise_fn) -> Sampler:
    def step(x, t, t_next, keys):
        dt = t_next - t
        score = score_from_noise(sde, noise_fn(x, t), t)
        mean = x + reverse_drift(sde, x, score, t) * dt
        return mean + sde.diffusion(t) * jnp.sqrt(-dt) * normal_like(keys, x)

    return Sampler(init=lambda x, keys: x, step=step)
