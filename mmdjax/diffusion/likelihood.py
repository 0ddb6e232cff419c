"""Exact log-density of data under the model: Song et al. (2021), section 4.3 and appendix D.2."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from mmdjax.diffusion.ode import integrate
from mmdjax.diffusion.predictions import NoiseFn, velocity_from_noise
from mmdjax.diffusion.sde import SDE
from mmdjax.errors import choice, require


class Likelihood(NamedTuple):
    """log_prob (B,) in nats, and the number of network evaluations."""

    log_prob: jax.Array
    nfe: jax.Array


def log_likelihood(
    x: jax.Array,
    noise_fn: NoiseFn,
    sde: SDE,
    divergence: str = "exact",
    keys: jax.Array | None = None,
    probes: int = 1,
    rtol: float = 1e-5,
    atol: float = 1e-5,
) -> Likelihood:
    """log p of x at t_min: the prior's at t_max plus the divergence along the probability flow.

    x is taken as x(t_min): data with noise of std(t_min) in it. NaN where the solver does not
    arrive.

    Args:
      x: (B, ...).
      noise_fn: (x (B, ...), t (B,)) -> predicted noise; rows must not depend on each other.
      sde: see `mmdjax.diffusion.sde.SDE`.
      divergence: 'exact' takes as many products with the Jacobian as a row has entries,
        'hutchinson' `probes` of them: an unbiased estimate (Hutchinson 1990).
      keys: (B,) typed keys for the probes: random signs, the same all the way.
      rtol, atol: of the solver, see `ode.integrate`.

    Raises:
      UserError: unknown divergence, 'hutchinson' without keys.
    """
    choice("divergence", divergence, ("exact", "hutchinson"))
    ready = divergence == "exact" or keys is not None
    require(ready, "divergence 'hutchinson': no keys given", "(B,) typed keys")
    batch, shape = x.shape[0], x.shape[1:]
    entries = int(jnp.size(x[0]))
    if divergence == "exact":
        unit = jnp.eye(entries, dtype=x.dtype).reshape(entries, 1, *shape)
        directions, scale = jnp.broadcast_to(unit, (entries, *x.shape)), 1.0
    else:
        draw = jax.vmap(lambda key: jax.random.rademacher(key, (probes, *shape), x.dtype))
        directions, scale = jnp.moveaxis(draw(keys), 1, 0), 1 / probes
    axes = tuple(range(1, x.ndim))

    def field(state, t):
        x = state[:, :-1].reshape(batch, *shape)
        # v^T J v by reverse mode: networks' attention has no forward one.
        velocity, product = jax.vjp(lambda x: velocity_from_noise(sde, x, noise_fn(x, t), t), x)
        traces = jax.lax.map(lambda v: (v * product(v)[0]).sum(axes), directions)
        trace = scale * traces.sum(0)
        return jnp.concatenate([velocity.reshape(batch, -1), trace[:, None]], axis=1)

    state = jnp.concatenate([x.reshape(batch, -1), jnp.zeros((batch, 1), x.dtype)], axis=1)
    solution = integrate(field, state, sde.t_min, sde.t_max, rtol, atol)
    end, change = solution.y[:, :-1], solution.y[:, -1]
    prior = -0.5 * (end / sde.prior_std) ** 2 - jnp.log(sde.prior_std * jnp.sqrt(2 * jnp.pi))
    return Likelihood(prior.sum(1) + change, solution.evaluations)
