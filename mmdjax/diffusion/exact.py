"""Gaussian data, for which everything is known: the exact score, and the exact law of any sampler.

With a Gaussian target the score is linear, so every sampler here with fixed steps is an affine map
of the prior draw and of its normals. Its mean and variance are propagated through the very steps
that are compiled for use, by differentiating them: no draws, no sampling error. A Gaussian with any
covariance splits into independent directions, its eigenvectors. What it cannot show is how a method
magnifies the errors of a network.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from numpy.typing import ArrayLike

from mmdjax.diffusion.samplers import registry
from mmdjax.diffusion.sde import SDE, Real


def gaussian_noise(
    sde: SDE, x: jax.Array, mean: jax.Array | float, variance: jax.Array | float, t: Real
) -> jax.Array:
    """Exact noise prediction for data from N(mean, variance), elementwise; all broadcast to x."""
    alpha, std = sde.marginal(t)
    return std * (x - alpha * mean) / (alpha**2 * variance + std**2)


@functools.cache
def _propagator(
    method: str, sde: SDE, options: tuple
) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """Compiled (grid (N + 1,), steps, start, mean, variance) -> moments; one for every length."""

    def propagate(grid, steps, start, mean, variance):
        def noise_fn(x, t):
            return gaussian_noise(sde, x, mean, variance, t)

        sampler = registry.make(method, sde, noise_fn, **dict(options))
        normals = jnp.zeros((sampler.normals, 1))
        carry, restore = ravel_pytree(sampler.init(start[0][None], grid[0]))
        # d carry / d x(first) carries the prior's spread into it.
        into = jax.jacfwd(lambda x: ravel_pytree(sampler.init(x, grid[0]))[0])(start[0][None])
        spread = start[1] * into @ into.T

        def step(i, moments):
            carry, spread = moments

            def flat(carry, z):
                return ravel_pytree(sampler.step(restore(carry), grid[i], grid[i + 1], z))[0]

            by_carry = jax.jacfwd(flat)(carry, normals)
            spread = by_carry @ spread @ by_carry.T
            if sampler.normals:
                by_normal = jax.jacfwd(flat, 1)(carry, normals)[..., 0]
                spread = spread + by_normal @ by_normal.T
            return flat(carry, normals), spread

        carry, spread = jax.lax.fori_loop(0, steps, step, (carry, spread))
        by_state = jax.jacfwd(lambda c: sampler.state(restore(c))[0])(carry)
        return sampler.state(restore(carry))[0], by_state @ spread @ by_state

    return jax.jit(jax.vmap(propagate, (None, None, 0, 0, 0)))


LONGEST = 4096
ROUNDING = 3e-11  # errors below are rounding, not discretisation


def law_of_draws(
    method: str,
    sde: SDE,
    grid: np.ndarray,
    mean: ArrayLike,
    variance: ArrayLike,
    exact_start: bool = False,
    **options: Any,
) -> tuple[np.ndarray, ...]:
    """Mean and variance (Q,) of a sampler's draws for data from N(mean, variance), to float64.

    Args:
      grid: decreasing times, at most `LONGEST` steps.
      mean, variance: (Q,) of the data, a row for every independent direction.
      exact_start: start from the exact law at grid[0] instead of from the prior.
    """
    with jax.enable_x64(True):
        mean, variance = np.asarray(mean, np.float64), np.asarray(variance, np.float64)
        grid = np.asarray(grid, np.float64)
        start = np.zeros_like(mean), np.full_like(variance, sde.prior_std**2)
        if exact_start:
            start = exact_law(sde, grid[0], mean, variance)
        padded = np.pad(grid, (0, LONGEST + 1 - len(grid)), mode="edge")
        compiled = _propagator(method, sde, tuple(sorted(options.items())))
        moments = compiled(padded, len(grid) - 1, start, mean, variance)
        return tuple(np.asarray(m) for m in moments)


def exact_law(
    sde: SDE, t: float, mean: np.ndarray, variance: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of x(t)."""
    with jax.enable_x64(True):
        alpha, std = (np.asarray(m) for m in sde.marginal(np.float64(t)))
    return alpha * mean, alpha**2 * variance + std**2


def wasserstein(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> float:
    """2-Wasserstein distance of two Gaussians with common eigenvectors, each (mean, variance)."""
    (mean, variance), (mean2, variance2) = first, second
    gap = np.sqrt(np.maximum(variance, 0)) - np.sqrt(np.maximum(variance2, 0))
    return float(np.sqrt(((mean - mean2) ** 2 + gap**2).sum()))


def relative_error(
    method: str,
    sde: SDE,
    grid: np.ndarray,
    mean: ArrayLike,
    variance: ArrayLike,
    **options: Any,
) -> float:
    """2-Wasserstein distance of a sampler's draws to the data, over the data's total deviation.

    It holds all: discretisation, the prior in place of x(t_max), the noise left at t_min.
    """
    law = law_of_draws(method, sde, grid, mean, variance, **options)
    return wasserstein(law, (np.asarray(mean), np.asarray(variance))) / np.sqrt(np.sum(variance))


def discretisation_error(
    method: str,
    sde: SDE,
    grid: np.ndarray,
    mean: ArrayLike,
    variance: ArrayLike,
    **options: Any,
) -> float:
    """The same without prior and remaining noise: exact law at grid[0] to exact law at the end."""
    law = law_of_draws(method, sde, grid, mean, variance, exact_start=True, **options)
    exact = exact_law(sde, grid[-1], np.asarray(mean), np.asarray(variance))
    return wasserstein(law, exact) / np.sqrt(np.sum(variance))


def slope(
    method: str,
    sde: SDE,
    grid: Callable[[int], np.ndarray],
    mean: ArrayLike,
    variance: ArrayLike,
    evaluations: Sequence[int] = (256, 512, 1024),
    **options: Any,
) -> float:
    """Measured order: by how many powers of two `discretisation_error` falls when NFE doubles.

    Args:
      grid: steps -> times. evaluations: increasing; the last pair above rounding counts.
    """
    each = registry.make(method, sde, None, **options).nfe
    errors = [
        discretisation_error(method, sde, grid(-(-nfe // each)), mean, variance, **options)
        for nfe in evaluations
    ]
    measured = float("nan")
    pairs = itertools.pairwise(zip(errors, evaluations, strict=True))
    for (coarse, less), (fine, more) in pairs:
        if fine > ROUNDING:
            measured = float(np.log2(coarse / fine) / np.log2(more / less))
    return measured


def exact_conditional_noise(
    mode: str, sde: SDE, x: jax.Array, shown: jax.Array, correlation: float, t: Real
) -> jax.Array:
    """Exact noise prediction for correlated unit Gaussians, given what `conditioning` shows.

    x (target at t) and the shown condition are jointly Gaussian with the noise; the best prediction
    is its regression on them. x, shown: broadcast; t: ().
    """
    alpha, std = sde.marginal(t)
    scale, spread = (1.0, 0.0) if mode == "clean" else (alpha, std)
    # Covariances of the noise with x and with the shown condition.
    with_x, with_c = std, spread if mode == "shared" else 0.0
    var_x, var_c = alpha**2 + std**2, scale**2 + spread**2
    cov = alpha * scale * correlation + std * with_c
    determinant = var_x * var_c - cov**2
    gain_x = (with_x * var_c - with_c * cov) / determinant
    gain_c = (with_c * var_x - with_x * cov) / determinant
    return gain_x * x + gain_c * shown
