"""SDE-DPM-Solver++(2M): Lu et al. (2022b), appendix on SDE solvers, the stochastic DPM-Solver++ 2M.

x' = std'/std exp(-h) x + alpha' (1 - exp(-2h)) D + std' sqrt(1 - exp(-2h)) z with D as in Algorithm
2. One evaluation a step.
"""

from __future__ import annotations

import jax.numpy as jnp

from mmdjax.diffusion.samplers import multistep
from mmdjax.diffusion.samplers.dpmpp import extrapolated
from mmdjax.diffusion.samplers.registry import Sampler, register
from mmdjax.diffusion.sde import expand, log_snr


@register("sde_dpmpp_2m")
def sde_dpmpp_2m(sde, noise_fn) -> Sampler:
    def init(x, t):
        return x, multistep.empty(x, log_snr(sde, t), 1)

    def step(carry, t, t_next, z):
        x, history = carry
        guess, history = extrapolated(sde, noise_fn, x, history, t, t_next)
        h = log_snr(sde, t_next) - log_snr(sde, t)
        (_, std), (alpha_next, std_next) = sde.marginal(t), sde.marginal(t_next)
        fresh = -jnp.expm1(-2 * h)
        x = expand(std_next / std * jnp.exp(-h), x) * x + expand(alpha_next * fresh, x) * guess
        return x + expand(std_next * jnp.sqrt(fresh), x) * z[0], history

    return Sampler(init, step, nfe=1, order=2, normals=1, state=lambda carry: carry[0])
