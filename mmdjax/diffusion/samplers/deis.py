"""tAB-DEIS: Zhang & Chen (2023), eq. 11-15.

y = x / alpha follows dy/dsigma = noise, sigma = std / alpha; the noise is extrapolated by a
polynomial in t through its last `order` values and integrated over sigma. One evaluation a step.
Order `order` where it has its outputs; it starts with one step of order 1 (DDIM), at the noise end.
"""

from mmdjax.diffusion.predictions import NoiseFn
from mmdjax.diffusion.samplers import multistep
from mmdjax.diffusion.samplers.registry import Sampler, register, whole
from mmdjax.diffusion.sde import SDE, expand


@register("deis")
def deis(sde: SDE, noise_fn: NoiseFn, order: int = 3) -> Sampler:
    whole("deis", "order", order, 1, 4)

    def step(x, history, t, t_next, z):
        (alpha, std), (alpha_next, std_next) = sde.marginal(t), sde.marginal(t_next)
        history = multistep.push(history, t, noise_fn(x, t))
        sigmas, weights = multistep.quadrature(std / alpha, std_next / alpha_next)
        integral = multistep.integral(history, order, sde.time(sigmas), weights)
        return expand(alpha_next, x) * (x / expand(alpha, x) + integral), history

    return multistep.sampler(step, lambda t: t, size=order, order=order)
