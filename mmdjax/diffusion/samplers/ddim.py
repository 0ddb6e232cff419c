"""DDIM: Song, Meng & Ermon (2020), eq. 12 with sigma = 0, in continuous time.

One evaluation a step, deterministic, first order in the step of std/alpha. Exact for a constant
noise prediction: it is the exponential integrator of the probability flow.
"""

from __future__ import annotations

from mmdjax.diffusion.samplers.registry import Sampler, register
from mmdjax.diffusion.sde import clean_from_noise, perturb


@register("ddim")
def ddim(sde, noise_fn) -> Sampler:
    def step(x, t, t_next, keys):
        del keys
        noise = noise_fn(x, t)
        return perturb(sde, clean_from_noise(sde, x, noise, t), noise, t_next)

    return Sampler(init=lambda x, keys: x, step=step)
