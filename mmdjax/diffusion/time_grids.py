"""Where a sampler evaluates the network: decreasing times from `sde.t_max` to `sde.t_min`."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from scipy import optimize

from mmdjax.diffusion.exact import discretisation_error
from mmdjax.diffusion.samplers.registry import check_options
from mmdjax.diffusion.sde import SDE
from mmdjax.errors import choice, require


def uniform(sde: SDE, steps: int) -> np.ndarray:
    """Equal steps in t."""
    return np.linspace(sde.t_max, sde.t_min, steps + 1)


def quadratic(sde: SDE, steps: int) -> np.ndarray:
    """Equal steps in sqrt(t): denser near the data, as DDIM's quadratic grid (Song et al. 2021)."""
    return np.linspace(sde.t_max**0.5, sde.t_min**0.5, steps + 1) ** 2


def log_snr(sde: SDE, steps: int, warp: tuple[float, ...] = ()) -> np.ndarray:
    """Equal steps in log(alpha / std) (Lu et al. 2022), or in a smooth warp of it.

    Args:
      warp: c_1, c_2, ...; the spacing of the grid in log(alpha / std), as a function of the
        fraction u of the steps taken, is proportional to exp(sum_k c_k cos(k pi u)).
    """
    start, end = np.log(_sigmas(sde))
    fine = np.linspace(0, 1, 4097)
    log_density = sum(c * np.cos((k + 1) * np.pi * fine) for k, c in enumerate(warp))
    speed = np.exp(log_density * np.ones_like(fine))
    passed = np.concatenate([[0], np.cumsum((speed[1:] + speed[:-1]) / 2)])
    s = np.interp(np.linspace(0, 1, steps + 1), fine, passed / passed[-1])
    return _times(sde, np.exp(start + (end - start) * s))


def karras(sde: SDE, steps: int, rho: float = 7.0) -> np.ndarray:
    """Equal steps in (std / alpha)^(1 / rho): Karras et al. (2022), eq. 5."""
    start, end = _sigmas(sde) ** (1 / rho)
    return _times(sde, np.linspace(start, end, steps + 1) ** rho)


def optimised(
    sde: SDE,
    steps: int,
    method: str = "dpmpp_2m",
    mean: tuple[float, ...] = (0.0,) * 6,
    variance: tuple[float, ...] = (1.0, 0.5, 0.2, 0.1, 0.03, 0.01),
    **options: Any,
) -> np.ndarray:
    """The smooth warp of `log_snr` with the least discretisation error on Gaussian data.

    The error is exact (`exact.py`), so the search sees no sampling noise. `method` and its options
    are the sampler's. mean, variance: of the data, a number for each independent direction;
    `spectrum` reads them off samples. The default is data of unit variance with directions
    that the condition determines more and more.
    """
    if steps == 1:  # nothing between the ends
        return log_snr(sde, steps)
    mean, variance = (tuple(float(v) for v in values) for values in (mean, variance))
    return log_snr(sde, steps, find_warp(sde, steps, method, mean, variance, **options))


@functools.cache
def find_warp(
    sde: SDE,
    steps: int,
    method: str,
    mean: tuple[float, ...],
    variance: tuple[float, ...],
    near: tuple[float, ...] = (),
    **options: Any,
) -> tuple[float, ...]:
    """The warp (c_1, ..., c_4) of `log_snr` that `optimised` uses; see there.

    Args:
      near: a warp to search about, instead of everywhere.
    """

    def loss(warp) -> float:
        grid = log_snr(sde, steps, tuple(warp))
        error = discretisation_error(method, sde, grid, mean, variance, **options)
        return np.log(error + 1e-12) + 1e-3 * float(np.square(warp).sum())

    # The first simplex is wide: from a narrow one the search stays where it starts.
    simplex = np.vstack([np.zeros(4), 1.5 * np.eye(4)])
    corners = [simplex, -simplex, simplex * [1, -1, 1, -1]]
    if near:
        corners = [near + 0.2 * simplex]
    limits, warps = {"maxfev": 200, "xatol": 1e-2, "fatol": 1e-3}, []
    for corner in corners:
        search = limits | {"initial_simplex": corner}
        warps.append(optimize.minimize(loss, corner[0], method="Nelder-Mead", options=search).x)
    return tuple(float(c) for c in min(warps, key=loss))


def spectrum(samples: np.ndarray, count: int = 8) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """mean and variance for `optimised` from samples (N, ...): `count` principal directions, evenly
    spaced among those that hold variance."""
    flat = samples.reshape(len(samples), -1).astype(np.float64)
    mean = flat.mean(0)
    _, singular, directions = np.linalg.svd(flat - mean, full_matrices=False)
    variance = singular**2 / max(len(flat) - 1, 1)
    used = int((variance > 1e-4 * variance.max()).sum())
    chosen = np.unique(np.linspace(0, used - 1, count).astype(int))
    return tuple((directions @ mean)[chosen].tolist()), tuple(variance[chosen].tolist())


REGISTRY: dict[str, Callable[..., np.ndarray]] = {
    "uniform": uniform,
    "quadratic": quadratic,
    "log_snr": log_snr,
    "karras": karras,
    "optimised": optimised,
}


def time_grid(name: str, sde: SDE, steps: int, **options: Any) -> np.ndarray:
    """(steps + 1,) float64 decreasing times.

    Args:
      options: the grid's own: `warp` of 'log_snr', `rho` of 'karras', `method`, `mean`,
        `variance` of 'optimised'.

    Raises:
      UserError: unknown grid or option, less than one step.
    """
    choice("time grid", name, REGISTRY)
    positive = isinstance(steps, int | np.integer) and steps >= 1
    require(positive, f"time grid of {steps} steps", "1, 2, ...")
    allowed = list(inspect.signature(REGISTRY[name]).parameters)[2:]
    if "options" not in allowed:
        check_options(f"time grid {name!r}", options, allowed)
    return REGISTRY[name](sde, steps, **options)


def _sigmas(sde: SDE) -> np.ndarray:
    """std / alpha at t_max and t_min."""
    with jax.ensure_compile_time_eval(), jax.enable_x64(True):
        alpha, std = sde.marginal(np.array([sde.t_max, sde.t_min]))
        return np.asarray(std / alpha)


def _times(sde: SDE, sigmas: np.ndarray) -> np.ndarray:
    """The times of decreasing sigmas; the ends are t_max and t_min to the last bit."""
    with jax.ensure_compile_time_eval(), jax.enable_x64(True):
        times = np.array(sde.time(sigmas))
    times[[0, -1]] = sde.t_max, sde.t_min
    return times
