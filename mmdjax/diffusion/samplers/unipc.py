"""UniPC: Zhao et al. (2023), Algorithms 1 and 2, clean prediction, multistep.

The evaluation at a predicted point first corrects that point (UniC, one order more than the
predictor), then predicts the next one (UniP), so both cost one evaluation a step. The weights are
those of exact polynomials in lambda: the paper's B(h) cancels out of them. `order` p is that of the
predictor; the corrected method has order p + 1 where it has its outputs. It starts with one output,
corrected to a local error of h^3, at the noise end. The last point is not corrected, as in the
paper. Not for less than 8 evaluations: extrapolation over long steps overshoots.
"""

from mmdjax.diffusion.predictions import NoiseFn, clean_from_noise
from mmdjax.diffusion.samplers import multistep
from mmdjax.diffusion.samplers.dpmpp import advance, exponential
from mmdjax.diffusion.samplers.registry import Sampler, register, whole
from mmdjax.diffusion.sde import SDE, log_snr


@register("unipc")
def unipc(sde: SDE, noise_fn: NoiseFn, order: int = 3) -> Sampler:
    whole("unipc", "order", order, 1, 3)

    def init(x, t):
        return x, x, t, multistep.empty(x, log_snr(sde, t), order + 1)

    def step(carry, t, t_next, z):
        x, last, t_last, history = carry
        before, now, after = (log_snr(sde, s) for s in (t_last, t, t_next))
        history = multistep.push(history, now, clean_from_noise(sde, x, noise_fn(x, t), t))
        # At the first step t_last = t: an integral over nothing corrects nothing.
        correction = multistep.integral(history, order + 1, *exponential(before, now))
        x = advance(sde, last, t_last, t, correction)
        prediction = multistep.integral(history, order, *exponential(now, after))
        return advance(sde, x, t, t_next, prediction), x, t, history

    return Sampler(init, step, nfe=1, order=order + 1, state=lambda carry: carry[0])
