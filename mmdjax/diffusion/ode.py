"""An adaptive ODE solver, each row with its own steps: Dormand & Prince (1980), RK5(4)7M."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mmdjax.diffusion.sde import expand

_TIMES = (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0)
_STAGES = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
)
_FIFTH = (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84)
_FOURTH = (5179 / 57600, 0.0, 7571 / 16695, 393 / 640, -92097 / 339200, 187 / 2100, 1 / 40)
_ERROR = tuple(fifth - fourth for fifth, fourth in zip((*_FIFTH, 0.0), _FOURTH, strict=True))


class Solution(NamedTuple):
    """y (B, ...) at the end, NaN in rows that did not get there; evaluations of the field."""

    y: jax.Array
    evaluations: jax.Array


def integrate(
    field: Callable[[jax.Array, jax.Array], jax.Array],
    y: jax.Array,
    start: jax.Array | float,
    end: jax.Array | float,
    rtol: float,
    atol: float,
    most_steps: int = 1000,
) -> Solution:
    """dy/dt = field(y, t) from start to end, which may be the smaller.

    Rows are solved side by side with steps of their own, so a row's solution does not depend on
    the others; rows that have arrived wait. Not differentiable in reverse (a while loop).

    Args:
      field: (y (B, ...), t (B,)) -> dy/dt (B, ...).
      y: (B, ...). start, end: scalars. rtol, atol: error allowed a step, root mean square of a row.
      most_steps: accepted or not.
    """
    start, end = jnp.asarray(start, y.dtype), jnp.asarray(end, y.dtype)
    span = end - start
    axes = tuple(range(1, y.ndim))
    smallest = 8 * float(jnp.finfo(y.dtype).eps)

    def unfinished(state):
        _, _, s, _, taken, _ = state
        return (taken < most_steps) & (s < 1).any()

    def step(state):
        y, slope, s, h, taken, evaluations = state
        h = jnp.minimum(h, 1 - s)  # 0 where the row has arrived

        def move(weights, slopes):
            total = sum(w * k for w, k in zip(weights, slopes, strict=True) if w)
            return expand(h, y) * span * total

        slopes = [slope]
        for c, weights in zip(_TIMES, _STAGES, strict=True):
            t = start + span * (s + c * h)
            slopes.append(field(y + move(weights, slopes), t))
        new = y + move(_FIFTH, slopes)
        last = field(new, start + span * (s + h))
        size = atol + rtol * jnp.maximum(jnp.abs(y), jnp.abs(new))
        error = jnp.sqrt(jnp.mean((move(_ERROR, [*slopes, last]) / size) ** 2, axes))
        error = jnp.where(jnp.isnan(error), jnp.inf, error)  # outside the field's domain
        # A step that cannot be made smaller is taken.
        accepted = (error <= 1) | (h <= smallest)
        factor = jnp.clip(0.9 * jnp.maximum(error, 1e-10) ** -0.2, 0.2, 5.0)
        keep = accepted & (s < 1)
        where = expand(keep, y).astype(bool)
        y = jnp.where(where, new, y)
        slope = jnp.where(where, last, slope)
        # Exactly 1 at the end: 1 - s loses nothing there.
        s = jnp.where(keep, jnp.where(h >= 1 - s, 1.0, s + h), s)
        # A row that is lost does not hold up the others.
        s = jnp.where(jnp.isfinite(y).all(axes), s, 1.0)
        h = jnp.where(s < 1, jnp.maximum(h * factor, smallest), h)
        return y, slope, s, h, taken + 1, evaluations + 6

    batch = y.shape[0]
    first = field(y, jnp.full(batch, start))
    zero = jnp.zeros(batch, y.dtype)
    state = (y, first, zero, zero + 1e-3, jnp.zeros((), jnp.int32), jnp.ones((), jnp.int32))
    y, _, s, _, _, evaluations = jax.lax.while_loop(unfinished, step, state)
    return Solution(jnp.where(expand(s < 1, y).astype(bool), jnp.nan, y), evaluations)
