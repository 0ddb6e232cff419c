"""The only loop over diffusion time: one compiled `lax.scan`, whatever the sampler."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from mmdjax.diffusion.samplers import registry


class Draw(NamedTuple):
    """x (B, ...) drawn, and `nfe`, the network evaluations that one row of x took."""

    x: jax.Array
    nfe: int


def sample(keys, shape, noise_fn, sde, grid, method: str = "ddim") -> Draw:
    """Draws one x for each key from the law whose noise prediction is `noise_fn`.

    Every row has its own key, split before the scan, so a draw depends on nothing but its key
    and its own row of whatever `noise_fn` closes over: not on batch size, order or padding.

    Args:
      keys: (B,) typed keys.
      shape: shape of one draw, without the batch.
      noise_fn: (x (B, *shape), t ()) -> predicted noise = -std(t) * score, same shape as x.
      sde: see `mmdjax.diffusion.sde.SDE`.
      grid: (steps + 1,) decreasing times, see `time_grids`.
      method: a registered sampler.

    Raises:
      UserError: unknown sampler.
    """
    calls = 0

    def counted(x, t):
        nonlocal calls
        calls += 1
        return noise_fn(x, t)

    sampler = registry.make(method, sde, counted)
    keys = jax.vmap(lambda key: jax.random.split(key, len(grid) + 1))(keys)
    x = sde.prior_std * jax.vmap(lambda key: jax.random.normal(key, shape))(keys[:, 0])
    carry = sampler.init(x, keys[:, 1])
    first = calls

    def step(carry, inputs):
        return sampler.step(carry, *inputs), None

    grid = jnp.asarray(grid)
    inputs = (grid[:-1], grid[1:], keys[:, 2:].T)
    # NFE is counted, not declared: the calls in one trace of the step, times the steps.
    calls = 0
    jax.eval_shape(step, carry, jax.tree.map(lambda a: a[0], inputs))
    nfe = first + calls * (len(grid) - 1)
    carry, _ = jax.lax.scan(step, carry, inputs)
    return Draw(sampler.state(carry), nfe)
