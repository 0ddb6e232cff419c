"""Ancestral sampling: Ho, Jain & Abbeel (2020), Algorithm 2, posterior of eq. 6-7, for any SDE.

x(t_next) is drawn from its exact law given x(t) and the predicted x(0). One evaluation a step, weak
order 1. `resample` = U > 1 goes back to t by the forward SDE and steps again, U times a step, as
RePaint (Lugmayr et al. 2022, Algorithm 1) does with held frames (`held.py`): U evaluations a step.
"""

import jax
import jax.numpy as jnp

from mmdjax.diffusion.predictions import NoiseFn, clean_from_noise
from mmdjax.diffusion.samplers.registry import Sampler, register, whole
from mmdjax.diffusion.sde import SDE, expand, transition


@register("ancestral")
def ancestral(sde: SDE, noise_fn: NoiseFn, resample: int = 1) -> Sampler:
    whole("ancestral", "resample", resample, 1)

    def down(x, t, t_next, z):
        clean = clean_from_noise(sde, x, noise_fn(x, t), t)
        (_, std), (alpha_next, std_next) = sde.marginal(t), sde.marginal(t_next)
        scale, jump = transition(sde, t_next, t)
        # Eq. 7: a weighted mean of x(0) and x(t), precisions 1 / std_next^2 and scale^2 / jump^2.
        mean = expand(alpha_next * (jump / std) ** 2, x) * clean
        mean = mean + expand(scale * (std_next / std) ** 2, x) * x
        return mean + expand(std_next / std * jump, x) * z

    def step(x, t, t_next, z):
        def again(x, z):
            x = down(x, t, t_next, z[0])
            scale, jump = transition(sde, t_next, t)
            return expand(scale, x) * x + expand(jump, x) * z[1], None

        if resample > 1:
            pairs = z[1:].reshape(resample - 1, 2, *x.shape)
            x, _ = jax.lax.scan(again, x, pairs)
        return down(x, t, t_next, z[0])

    return Sampler(
        init=lambda x, t: jnp.asarray(x),
        step=step,
        nfe=resample,
        order=1,
        normals=2 * resample - 1,
    )
