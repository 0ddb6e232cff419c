"""DDIM: Song, Meng & Ermon (2021), eq. 12 and 16, in continuous time.

One evaluation a step, order 1. eta = 0 is deterministic, the exponential integrator of the
probability flow, exact for a constant noise prediction; eta = 1 is ancestral sampling (DDPM).
"""

from __future__ import annotations

import jax.numpy as jnp

from mmdjax.diffusion.predictions import clean_from_noise
from mmdjax.diffusion.samplers.registry import Sampler, register
from mmdjax.diffusion.sde import expand, transition
from mmdjax.errors import UserError


def posterior_std(sde, t, t_next):
    """Std of x(t_next) given x(t) and x(0): std_next / std times that of x(t) given x(t_next)."""
    return sde.marginal(t_next)[1] / sde.marginal(t)[1] * transition(sde, t_next, t)[1]


@register("ddim")
def ddim(sde, noise_fn, eta: float = 0.0) -> Sampler:
    if not 0 <= eta <= 1:
        raise UserError(f"ddim: eta = {eta}; allowed: 0 to 1")

    def step(x, t, t_next, z):
        noise = noise_fn(x, t)
        clean = clean_from_noise(sde, x, noise, t)
        alpha, std = sde.marginal(t_next)
        fresh = eta * posterior_std(sde, t, t_next) if eta else jnp.zeros_like(std)
        direction = jnp.sqrt(jnp.maximum(std**2 - fresh**2, 0)) if eta else std
        mean = expand(alpha, x) * clean + expand(direction, x) * noise
        return mean + expand(fresh, x) * z[0] if eta else mean

    return Sampler(init=lambda x, t: x, step=step, nfe=1, order=1, normals=int(eta > 0))
