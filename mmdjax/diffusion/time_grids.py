"""Where a sampler evaluates the network: decreasing times from 1 to `sde.t_min`."""

from __future__ import annotations

import numpy as np

from mmdjax.errors import choice


def uniform(sde, steps: int) -> np.ndarray:
    """Equal steps in t."""
    return np.linspace(1.0, sde.t_min, steps + 1)


def quadratic(sde, steps: int) -> np.ndarray:
    """Equal steps in sqrt(t): denser near the data, as DDIM's quadratic grid (Song et al. 2020)."""
    return np.linspace(1.0, sde.t_min**0.5, steps + 1) ** 2


REGISTRY = {"uniform": uniform, "quadratic": quadratic}


def time_grid(name: str, sde, steps: int) -> np.ndarray:
    """(steps + 1,) float32 decreasing times.

    Raises:
      UserError: unknown grid.
    """
    choice("time grid", name, REGISTRY)
    return REGISTRY[name](sde, steps).astype(np.float32)
