"""SDE-DPM-Solver++(2M): Lu et al. (2022b), appendix on SDE solvers, the stochastic DPM-Solver++ 2M.

x' = std'/std exp(-h) x + alpha' (1 - exp(-2h)) D + std' sqrt(1 - exp(-2h)) z with D as in Algorithm
2. One evaluation a step.
"""

import jax.numpy as jnp

from mmdjax.diffusion.predictions import NoiseFn
from mmdjax.diffusion.samplers import multistep
from mmdjax.diffusion.samplers.dpmpp import extrapolated
from mmdjax.diffusion.samplers.registry import Sampler, register
from mmdjax.diffusion.sde import SDE, expand, log_snr


@register("sde_dpmpp_2m")
def sde_dpmpp_2m(sde: SDE, noise_fn: NoiseFn) -> Sampler:
    def step(x, history, t, t_next, z):
        clean, history = extrapolated(sde, noise_fn, x, history, t, t_next)
        h = log_snr(sde, t_next) - log_snr(sde, t)
        (_, std), (alpha_next, std_next) = sde.marginal(t), sde.marginal(t_next)
        fresh = -jnp.expm1(-2 * h)
        x = expand(std_next / std * jnp.exp(-h), x) * x + expand(alpha_next * fresh, x) * clean
        return x + expand(std_next * jnp.sqrt(fresh), x) * z[0], history

    return multistep.sampler(step, lambda t: log_snr(sde, t), size=1, order=2, normals=1)
