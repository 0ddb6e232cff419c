"""DDIM: Song, Meng & Ermon (2021), eq. 12 and 16, in continuous time.

One evaluation a step, order 1. eta = 0 is deterministic, the exponential integrator of the
probability flow, exact for a constant noise prediction; eta = 1 is ancestral sampling (DDPM).
"""

import jax.numpy as jnp

from mmdjax.diffusion.predictions import NoiseFn, clean_from_noise
from mmdjax.diffusion.samplers.registry import Sampler, real, register
from mmdjax.diffusion.sde import SDE, expand, transition


@register("ddim")
def ddim(sde: SDE, noise_fn: NoiseFn, eta: float = 0.0) -> Sampler:
    real("ddim", "eta", eta, 0, 1, "0 to 1")

    def step(x, t, t_next, z):
        noise = noise_fn(x, t)
        clean = clean_from_noise(sde, x, noise, t)
        alpha, std = sde.marginal(t_next)
        if eta == 0:
            return expand(alpha, x) * clean + expand(std, x) * noise
        scale, jump = transition(sde, t_next, t)
        # Posterior std, and sqrt(std_next^2 - fresh^2) without cancellation.
        shrink = std / sde.marginal(t)[1]
        fresh = eta * shrink * jump
        direction = shrink * jnp.hypot((1 - eta**2) ** 0.5 * jump, scale * std)
        mean = expand(alpha, x) * clean + expand(direction, x) * noise
        return mean + expand(fresh, x) * z[0]

    return Sampler(init=lambda x, t: x, step=step, nfe=1, order=1, normals=int(eta > 0))
