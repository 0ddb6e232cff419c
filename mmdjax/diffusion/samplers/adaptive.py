"""The reference: the probability flow solved to a tolerance, Song et al. (2021), appendix D.4.

Dormand-Prince 5(4) (`ode.py`) on dy/dangle = v (as in `heun`), from each time of the grid to the
next; a grid of one step gives it the whole way. It chooses its evaluations itself: they are
counted as it runs, the same for all rows of a call, which wait for the slowest. The network is
called with times (B,). Rows that do not arrive within 1000 steps are NaN: the flow is not smooth.
With a bfloat16 network the tolerances should not be below its rounding, 1e-2.
"""

import jax.numpy as jnp

from mmdjax.diffusion.ode import integrate
from mmdjax.diffusion.predictions import NoiseFn
from mmdjax.diffusion.samplers.adams_bashforth import polar, polar_flow
from mmdjax.diffusion.samplers.registry import Sampler, real, register
from mmdjax.diffusion.sde import SDE, expand


@register("adaptive")
def adaptive(sde: SDE, noise_fn: NoiseFn, rtol: float = 1e-5, atol: float = 1e-5) -> Sampler:
    for option, value in (("rtol", rtol), ("atol", atol)):
        real("adaptive", option, value, 1e-14, 1, "above 0 to 1")

    def field(y, angle):
        t = jnp.clip(sde.time(jnp.tan(angle)), sde.t_min, sde.t_max)
        return polar_flow(sde, noise_fn, y, t)

    def init(x, t):
        return x, jnp.zeros((), jnp.int32)

    def step(carry, t, t_next, z):
        x, evaluations = carry
        (angle, radius), (angle_next, radius_next) = polar(sde, t), polar(sde, t_next)
        solution = integrate(field, x / expand(radius, x), angle, angle_next, rtol, atol)
        return expand(radius_next, x) * solution.y, evaluations + solution.evaluations

    return Sampler(
        init,
        step,
        nfe=0,
        order=None,
        state=lambda carry: carry[0],
        evaluations=lambda carry: carry[1],
    )
