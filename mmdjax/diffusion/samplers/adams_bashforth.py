"""Adams-Bashforth on the probability flow in v: Hairer, Norsett & Wanner (1993), chapter III.

In y = x / sqrt(alpha^2 + std^2) and angle = arctan(std / alpha) the flow is dy/dangle = v (as in
`heun`); v is extrapolated by a polynomial in the angle through its last `order` values. One
evaluation a step. Order `order` where it has its outputs; it starts with one step of order 1, at
the noise end. On grids that are even in the angle, such as 'quadratic' (VP) or 'uniform' (rectified
flow), the multistep method for very few evaluations, with networks that predict v: errors of a
noise prediction come into v multiplied by sqrt(alpha^2 + std^2) / alpha.
"""

import jax
import jax.numpy as jnp

from mmdjax.diffusion.predictions import NoiseFn, v_from_noise
from mmdjax.diffusion.samplers import multistep
from mmdjax.diffusion.samplers.registry import Sampler, register, whole
from mmdjax.diffusion.sde import SDE, Real, expand


def polar(sde: SDE, t: Real) -> tuple[jax.Array, jax.Array]:
    """(angle, radius) of (alpha, std)."""
    alpha, std = sde.marginal(t)
    return jnp.arctan2(std, alpha), jnp.hypot(alpha, std)


def polar_flow(sde: SDE, noise_fn: NoiseFn, y: jax.Array, t: Real) -> jax.Array:
    """dy/dangle = v at y = x / radius."""
    x = expand(polar(sde, t)[1], y) * y
    return v_from_noise(sde, x, noise_fn(x, t), t)


@register("adams_bashforth")
def adams_bashforth(sde: SDE, noise_fn: NoiseFn, order: int = 3) -> Sampler:
    whole("adams_bashforth", "order", order, 1, 4)

    def step(x, history, t, t_next, z):
        (angle, radius), (angle_next, radius_next) = polar(sde, t), polar(sde, t_next)
        history = multistep.push(history, angle, v_from_noise(sde, x, noise_fn(x, t), t))
        integral = multistep.integral(history, order, *multistep.quadrature(angle, angle_next))
        return expand(radius_next, x) * (x / expand(radius, x) + integral), history

    return multistep.sampler(step, lambda t: polar(sde, t)[0], size=order, order=order)
