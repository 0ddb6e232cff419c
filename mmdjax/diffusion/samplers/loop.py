"""The only loop over diffusion time: one compiled `lax.scan`, whatever the sampler."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmdjax.diffusion.predictions import NoiseFn, clean_from_noise
from mmdjax.diffusion.samplers import registry
from mmdjax.diffusion.samplers.registry import Sampler
from mmdjax.diffusion.sde import SDE, Real
from mmdjax.errors import UserError, choice, require


class Draw(NamedTuple):
    """x (B, ...) drawn, and `nfe`, the network evaluations that one row of x took."""

    x: jax.Array
    nfe: int


PRIORS = ("zero", "matched")


def sample(
    keys: jax.Array,
    shape: Sequence[int],
    noise_fn: NoiseFn,
    sde: SDE,
    grid: np.ndarray | jax.Array,
    method: str | Callable[..., Sampler] = "ddim",
    *,
    prior: str = "zero",
    dtype: Any = jnp.float32,
    **options: Any,
) -> Draw:
    """Draws one x for each key from the law whose noise prediction is `noise_fn`.

    Every row has its own key, split before the scan, so a draw depends on nothing but its key
    and its own row of whatever `noise_fn` closes over: not on batch size, order or padding.

    Args:
      keys: (B,) typed keys.
      shape: shape of one draw, without the batch.
      noise_fn: (x (B, *shape), t) -> predicted noise = -std(t) * score, same shape as x; t is a
        scalar, for method 'adaptive' (B,). One with an attribute `evaluations` counts as so many.
      sde: see `mmdjax.diffusion.sde.SDE`.
      grid: (steps + 1,) decreasing times, see `time_grids`.
      method: a registered sampler, or the constructor of one; options: its own, such as eta of
        'ddim'.
      prior: 'zero', the SDE's Gaussian around 0; or 'matched', around what the network makes of it,
        for one evaluation more, see `matched`.
      dtype: what the network sees and what is returned. The state itself is never below float32:
        small steps would be lost in it. float64 draws other normals than float32 for the same keys.

    Raises:
      UserError: unknown sampler, prior or option, an SDE that it does not support, a grid that does
        not decrease or leaves (0, t_max], a dtype that is none of floats.
    """
    check_grid(grid, sde)
    choice("prior", prior, PRIORS)
    dtype = jnp.dtype(dtype)
    floating = jnp.issubdtype(dtype, jnp.floating)
    require(floating, f"dtype {dtype}", "bfloat16, float16, float32, float64")
    supported = dtype != jnp.float64 or jax.config.jax_enable_x64
    require(supported, "dtype float64 while jax_enable_x64 is off", "float32, or turn it on")
    precise = jnp.promote_types(dtype, jnp.float32)

    def network(x, t):
        return jnp.asarray(noise_fn(x.astype(dtype), t), precise)

    make = functools.partial(registry.make, method) if isinstance(method, str) else method
    sampler = make(sde, network, **options)
    grid = jnp.asarray(grid, precise)
    keys = jax.vmap(lambda key: jax.random.split(key, len(grid)))(keys)
    x = sde.prior_std * jax.vmap(lambda key: jax.random.normal(key, shape, precise))(keys[:, 0])

    def normals(keys):
        z = (sampler.normals, *shape)
        return jnp.moveaxis(jax.vmap(lambda k: jax.random.normal(k, z, precise))(keys), 1, 0)

    if prior == "matched":
        x = matched(sde, network, x, grid[0])
    carry = solve(sampler, x, grid, keys[:, 1:].T, normals)
    nfe = sampler.nfe * (len(grid) - 1)
    if sampler.evaluations:
        nfe = sampler.evaluations(carry)
    nfe = nfe + (prior == "matched")
    return Draw(sampler.state(carry).astype(dtype), nfe * getattr(noise_fn, "evaluations", 1))


def matched(sde: SDE, noise_fn: NoiseFn, x: jax.Array, t: Real) -> jax.Array:
    """Returns x(t_max) of about the law that the data have there, from x of the SDE's prior.

    That law is N(alpha m, alpha^2 v + std^2) of data of mean m and variance v, and the prior is
    N(0, std^2). Where alpha / std is not small, as 1 / 9.85 of VE with sigma = 25, draws inherit
    the difference, however many steps they take. What the network makes of x / 2 at t_max is
    (1 - k alpha) m + k x / 2 with k = alpha v / (alpha^2 v + std^2) where data are Gaussian: alpha
    times that, added to x, is right to first order in alpha / std, mean and variance.
    """
    clean = clean_from_noise(sde, x / 2, noise_fn(x / 2, t), t)
    return sde.marginal(t)[0] * clean + x


def solve(
    sampler: registry.Sampler,
    x: jax.Array,
    grid: jax.Array,
    sources: jax.Array,
    normals: Callable[[jax.Array], jax.Array] = lambda z: z,
) -> Any:
    """The carry after every step of `grid`, from x at its first time.

    Args:
      sources: (steps, ...) whatever `normals` makes a step's standard normals from; with its
        default the normals (steps, sampler.normals, B, ...) themselves.
    """

    def step(carry, inputs):
        t, t_next, source = inputs
        return sampler.step(carry, t, t_next, normals(source)), None

    inputs = (grid[:-1], grid[1:], sources)
    if len(grid) == 2:  # one step is no loop
        return step(sampler.init(x, grid[0]), jax.tree.map(lambda a: a[0], inputs))[0]
    return jax.lax.scan(step, sampler.init(x, grid[0]), inputs)[0]


def check_grid(grid: np.ndarray | jax.Array, sde: SDE) -> None:
    """Raises `UserError` where a grid does not decrease or leaves (0, t_max]; traced ones pass."""
    if isinstance(grid, jax.core.Tracer):
        return
    grid = np.asarray(grid)
    row = grid.ndim == 1 and len(grid) >= 2
    require(row, f"time grid of shape {grid.shape}", "at least two times in one row")
    # A float32 grid may round t_max up.
    outside = grid[~((grid > 0) & (grid <= sde.t_max * (1 + 1e-6)))]
    if outside.size:
        raise UserError(f"time grid holds t = {outside[0]:g}; allowed: (0, {sde.t_max:g}]")
    rising = np.flatnonzero(np.diff(grid) >= 0)
    if rising.size:
        now, after = grid[rising[0] : rising[0] + 2]
        raise UserError(f"time grid holds {after:g} after {now:g}; allowed: decreasing times")
