"""The samplers by name. A new one is a new file with `@register("name")` on its constructor."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import NamedTuple

from mmdjax.diffusion import sde as sdes
from mmdjax.errors import UserError, choice


class Sampler(NamedTuple):
    """One way to go from noise to data: a pure function of the state and of standard normals.

    Attributes:
      init: (x (B, ...), first t) -> carry, a pytree.
      step: (carry, t, t_next, z (normals, B, ...)) -> carry at t_next; t and t_next are scalars.
      nfe: network evaluations a step; 0 if the method chooses them itself.
      order: p in 'the error of the final law falls as the p-th power of the step', for a stochastic
        method its weak order. A multistep method starts with lower orders, whose errors are tiny at
        the noise end but outlive its own as the step goes to 0. None: it controls its own error.
      normals: standard normals of x's shape that a step needs.
      strong: order of the path's error for given Brownian increments, where the method claims one.
      state: carry -> x; by default the carry is the state itself.
      evaluations: carry -> evaluations so far, for methods with nfe = 0.
    """

    init: Callable
    step: Callable
    nfe: int
    order: float | None
    normals: int = 0
    strong: float | None = None
    state: Callable = lambda carry: carry
    evaluations: Callable | None = None


_CONSTRUCTORS: dict[str, Callable] = {}
_EXPLICIT: set[str] = set()


def register(name: str, explicit: bool = False):
    """Decorates `constructor(sde, noise_fn, **options) -> Sampler`.

    Args:
      explicit: the method steps f and g themselves, so they have to be bounded.
    """

    def add(constructor):
        _CONSTRUCTORS[name] = constructor
        if explicit:
            _EXPLICIT.add(name)
        return constructor

    return add


def names() -> tuple[str, ...]:
    """Every registered sampler; importing the folder's files is what registers them."""
    package = importlib.import_module("mmdjax.diffusion.samplers")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return tuple(sorted(_CONSTRUCTORS))


def options(name: str) -> tuple[str, ...]:
    """The names of a sampler's options, e.g. ('eta',)."""
    choice("sampler", name, names())
    return tuple(inspect.signature(_CONSTRUCTORS[name]).parameters)[2:]


def supports(name: str, sde) -> bool:
    choice("sampler", name, names())
    return sde.bounded or name not in _EXPLICIT


def make(name: str, sde, noise_fn, **given) -> Sampler:
    """Raises `UserError`: unknown name or option, or an SDE that the sampler does not support."""
    allowed = options(name)
    for option in given:
        if option not in allowed:
            known = ", ".join(allowed) or "none"
            raise UserError(f"sampler {name!r} has no option {option!r}; allowed: {known}")
    if not supports(name, sde):
        fine = ", ".join(k for k, kind in sdes.REGISTRY.items() if kind().bounded)
        raise UserError(
            f"sampler {name!r} does not support the SDE {sdes.name_of(sde)!r}, whose drift is "
            f"infinite at t = 1; allowed: {fine}"
        )
    return _CONSTRUCTORS[name](sde, noise_fn, **given)


def whole(sampler: str, option: str, value, least: int, most: int | None = None) -> None:
    """Raises `UserError` unless value is a whole number from `least` to `most`."""
    fine = isinstance(value, int) and not isinstance(value, bool)
    if not (fine and value >= least and (most is None or value <= most)):
        rule = f"{least}, {least + 1}, ..." if most is None else f"{least} to {most}"
        raise UserError(f"{sampler}: {option} = {value}; allowed: {rule}")


def real(sampler: str, option: str, value, least: float, most: float, rule: str) -> None:
    """Raises `UserError` unless value is a number from `least` to `most`, as `rule` says."""
    fine = isinstance(value, int | float) and not isinstance(value, bool)
    if not (fine and least <= value <= most):
        raise UserError(f"{sampler}: {option} = {value}; allowed: {rule}")


def steps_for(name: str, nfe: int, **given) -> int:
    """Steps of the time grid that spend exactly `nfe` evaluations.

    Raises:
      UserError: `nfe` cannot be spent exactly. Methods that choose for themselves take nfe = 0.
    """
    each = make(name, sdes.VP(), None, **given).nfe
    if each == 0:
        if nfe != 0:
            raise UserError(
                f"sampler {name!r} chooses its evaluations itself: NFE {nfe} given; allowed: 0"
            )
        return 1
    if nfe < 1 or nfe % each:
        rule = "a positive number" if each == 1 else f"a positive multiple of {each}"
        raise UserError(f"sampler {name!r} cannot spend NFE {nfe} exactly; allowed: {rule}")
    return nfe // each
