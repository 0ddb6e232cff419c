"""Stochastic Heun on the reverse-time SDE: Kloeden & Platen (1992), section 15.1, additive noise.

Predict with Euler-Maruyama, average the drifts at both ends, the same noise in both. Two
evaluations a step. The noise is additive with amplitude g(t); its variance over a step, int g^2 dt,
is met to third order by the mean of both ends' g, and the drift of the noisy predictor meets the
covariance of drift and noise to third order too: weak order 2. Strong order 1.
"""

import jax.numpy as jnp

from mmdjax.diffusion.predictions import NoiseFn, score_from_noise
from mmdjax.diffusion.samplers.registry import Sampler, register
from mmdjax.diffusion.sde import SDE, reverse_drift


@register("heun_sde", explicit=True)
def heun_sde(sde: SDE, noise_fn: NoiseFn) -> Sampler:
    def drift(x, t):
        return reverse_drift(sde, x, score_from_noise(sde, x, noise_fn(x, t), t), t)

    def step(x, t, t_next, z):
        dt = t_next - t
        noise = 0.5 * (sde.diffusion(t) + sde.diffusion(t_next)) * jnp.sqrt(-dt) * z[0]
        first = drift(x, t)
        second = drift(x + first * dt + noise, t_next)
        return x + 0.5 * (first + second) * dt + noise

    return Sampler(init=lambda x, t: x, step=step, nfe=2, order=2, normals=1, strong=1)
