"""DPM-Solver++: Lu et al. (2022b), clean prediction, in lambda = log(alpha / std).

    x(t') = std'/std x(t) + alpha' int exp(lambda - lambda') x0(lambda) dlambda        (eq. 8)

dpmpp_1s  x0 constant over a step; the update is DDIM's. Order 1.
dpmpp_2m  Algorithm 2: x0 from the last two outputs. Order 2.
dpmpp_3m  the quadratic through the last three outputs, integrated exactly. Order 3 where it has its
          three outputs; it starts with one step of order 1 and one of order 2, at the noise end.
          The formula in circulation takes D2 = (D1_0 - D1_1) / (r0 + r1) for h^2 x0'', which is
          half of it: measured with `exact.py`, that method has order 2, not 3.
All multistep: one evaluation a step.
"""

import jax
import jax.numpy as jnp

from mmdjax.diffusion.predictions import NoiseFn, clean_from_noise
from mmdjax.diffusion.samplers import multistep
from mmdjax.diffusion.samplers.multistep import History
from mmdjax.diffusion.samplers.registry import Sampler, register
from mmdjax.diffusion.sde import SDE, Real, expand, log_snr


def exponential(now: jax.Array, after: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Quadrature points of the step's integral, with exp(lambda - lambda') in the weights."""
    points, weights = multistep.quadrature(now, after)
    return points, weights * jnp.exp(points - after)


def advance(sde: SDE, x: jax.Array, t: Real, t_next: Real, integral: jax.Array) -> jax.Array:
    """Eq. 8 for a known integral."""
    (_, std), (alpha_next, std_next) = sde.marginal(t), sde.marginal(t_next)
    return expand(std_next / std, x) * x + expand(alpha_next, x) * integral


def advance_constant(sde: SDE, x: jax.Array, t: Real, t_next: Real, clean: jax.Array) -> jax.Array:
    """Eq. 8 with x0 constant over the step: the integral is (1 - exp(-h)) x0."""
    h = log_snr(sde, t_next) - log_snr(sde, t)
    return advance(sde, x, t, t_next, expand(-jnp.expm1(-h), x) * clean)


def half_ratio(sde: SDE, history: History, t: Real, t_next: Real) -> jax.Array:
    """Algorithm 2's 1/2r, r = h_last / h; 0 at the first step (line 8)."""
    now, after = log_snr(sde, t), log_snr(sde, t_next)
    ratio = 0.5 * (after - now) / (now - history.nodes[0])
    return jnp.where(history.count > 0, ratio, 0.0)


def extrapolated(
    sde: SDE, noise_fn: NoiseFn, x: jax.Array, history: History, t: Real, t_next: Real
) -> tuple[jax.Array, History]:
    """Algorithm 2's D = (1 + 1/2r) x0 - 1/2r x0_last, and the history with x0 in it."""
    now = log_snr(sde, t)
    clean = clean_from_noise(sde, x, noise_fn(x, t), t)
    c = expand(half_ratio(sde, history, t, t_next), x)
    return (1 + c) * clean - c * history.values[0], multistep.push(history, now, clean)


@register("dpmpp_1s")
def dpmpp_1s(sde: SDE, noise_fn: NoiseFn) -> Sampler:
    def step(x, t, t_next, z):
        clean = clean_from_noise(sde, x, noise_fn(x, t), t)
        return advance_constant(sde, x, t, t_next, clean)

    return Sampler(init=lambda x, t: x, step=step, nfe=1, order=1)


@register("dpmpp_2m")
def dpmpp_2m(sde: SDE, noise_fn: NoiseFn) -> Sampler:
    def step(x, history, t, t_next, z):
        clean, history = extrapolated(sde, noise_fn, x, history, t, t_next)
        return advance_constant(sde, x, t, t_next, clean), history

    return multistep.sampler(step, lambda t: log_snr(sde, t), size=1, order=2)


@register("dpmpp_3m")
def dpmpp_3m(sde: SDE, noise_fn: NoiseFn) -> Sampler:
    def step(x, history, t, t_next, z):
        now, after = log_snr(sde, t), log_snr(sde, t_next)
        history = multistep.push(history, now, clean_from_noise(sde, x, noise_fn(x, t), t))
        integral = multistep.integral(history, 3, *exponential(now, after))
        return advance(sde, x, t, t_next, integral), history

    return multistep.sampler(step, lambda t: log_snr(sde, t), size=3, order=3)
