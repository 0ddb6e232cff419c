"""Heun on the probability flow, with churn: Karras et al. (2022), Algorithms 1 and 2.

Their Algorithm 1 leaves the schedule sigma(t) and the scaling s(t) free; here sigma = tan(angle)
and s = cos(angle), whatever the SDE. So y = x / sqrt(alpha^2 + std^2) keeps unit variance if the
data has it, and the flow is dy/dangle = v, the bounded v of `predictions.py`. (In sigma itself,
which they prefer, the error at 10 to 30 evaluations is several times larger on most grids.) Two
evaluations a step, the last one too: it ends at t_min, not at sigma = 0. Order 2.

`churn` first raises the noise level, sigma -> sigma (1 + gamma), by adding noise, then steps down.
Their gamma = S_churn / N depends on the number of steps; here gamma = churn (1 - sigma_next /
sigma), which has a limit: their SDE (eq. 6) with beta(t) = churn sigma' / sigma. churn = 1 is the
reverse SDE of Song et al. (2021), 0 the probability flow. At most gamma = sqrt(2) - 1, as there.
Adding noise is exact, so the law keeps order 2.
"""

import jax.numpy as jnp

from mmdjax.diffusion.predictions import NoiseFn
from mmdjax.diffusion.samplers.adams_bashforth import polar, polar_flow
from mmdjax.diffusion.samplers.registry import Sampler, real, register
from mmdjax.diffusion.sde import SDE, expand


@register("heun")
def heun(sde: SDE, noise_fn: NoiseFn, churn: float = 0.0) -> Sampler:
    real("heun", "churn", churn, 0, 1e6, "0 or more, finite")

    def raised(x, t, t_next, z):
        """x and t at the raised noise level; as they are where that would be beyond t_max."""
        (alpha, std), (alpha_next, std_next) = sde.marginal(t), sde.marginal(t_next)
        sigma = std / alpha
        gamma = jnp.minimum(churn * (1 - std_next / alpha_next / sigma), 2**0.5 - 1)
        top = sde.time((1 + gamma) * sigma)
        inside = top < sde.t_max
        t = jnp.where(inside, top, t)
        jump = jnp.where(inside, sigma * jnp.sqrt((1 + gamma) ** 2 - 1), 0.0)
        y = x / expand(alpha, x) + expand(jump, x) * z
        return expand(sde.marginal(t)[0], x) * y, t

    def step(x, t, t_next, z):
        if churn:
            x, t = raised(x, t, t_next, z[0])
        (angle, radius), (angle_next, radius_next) = polar(sde, t), polar(sde, t_next)
        y, gap = x / expand(radius, x), expand(angle_next - angle, x)
        first = polar_flow(sde, noise_fn, y, t)
        second = polar_flow(sde, noise_fn, y + gap * first, t_next)
        return expand(radius_next, x) * (y + 0.5 * gap * (first + second))

    return Sampler(init=lambda x, t: x, step=step, nfe=2, order=2, normals=int(churn > 0))
