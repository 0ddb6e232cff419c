"""Euler-Maruyama on the reverse-time SDE: Song et al. (2021), eq. 6.

One evaluation a step. Weak order 1; strong order 1, since the noise is additive (g depends on t
only). Backwards in time dt < 0, so the score's term is added: the thesis' Algorithm 1 subtracts it
and drops the drift; both are mended here.
"""

import jax
import jax.numpy as jnp

from mmdjax.diffusion.predictions import NoiseFn, score_from_noise
from mmdjax.diffusion.samplers.registry import Sampler, register
from mmdjax.diffusion.sde import SDE, reverse_drift


def euler_step(
    sde: SDE, noise: jax.Array, x: jax.Array, t: jax.Array, t_next: jax.Array, z: jax.Array
) -> jax.Array:
    """x at t_next, and g sqrt(|dt|) z, from the predicted noise at t."""
    dt = t_next - t
    drift = reverse_drift(sde, x, score_from_noise(sde, x, noise, t), t)
    return x + drift * dt + sde.diffusion(t) * jnp.sqrt(-dt) * z


@register("euler_maruyama", explicit=True)
def euler_maruyama(sde: SDE, noise_fn: NoiseFn) -> Sampler:
    def step(x, t, t_next, z):
        return euler_step(sde, noise_fn(x, t), x, t, t_next, z[0])

    return Sampler(init=lambda x, t: x, step=step, nfe=1, order=1, normals=1, strong=1)
