"""The samplers by name. A new one is a new file with `@register("name")` on its constructor."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import NamedTuple

import jax

from mmdjax.errors import choice


class Sampler(NamedTuple):
    """One way to go from noise to data.

    Attributes:
      init: (x (B, ...), keys (B,)) -> carry, a pytree.
      step: (carry, t, t_next, keys (B,)) -> carry at t_next; t and t_next are scalars.
      state: carry -> x; by default the carry is the state itself.
    """

    init: Callable
    step: Callable
    state: Callable = lambda carry: carry


_CONSTRUCTORS: dict[str, Callable] = {}


def register(name: str):
    """Decorates `constructor(sde, noise_fn) -> Sampler`."""

    def add(constructor):
        _CONSTRUCTORS[name] = constructor
        return constructor

    return add


def names() -> tuple[str, ...]:
    """Every registered sampler; importing the folder's files is what registers them."""
    package = importlib.import_module("mmdjax.diffusion.samplers")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return tuple(sorted(_CONSTRUCTORS))


def make(name: str, sde, noise_fn) -> Sampler:
    """Raises `UserError` for an unknown name."""
    choice("sampler", name, names())
    return _CONSTRUCTORS[name](sde, noise_fn)


def normal_like(keys: jax.Array, x: jax.Array) -> jax.Array:
    """Standard normal of x's shape (B, ...), each row from its own key of keys (B,)."""
    return jax.vmap(lambda key: jax.random.normal(key, x.shape[1:], x.dtype))(keys)
