"""The samplers by name. A new one is a new file with `@register("name")` on its constructor."""

import importlib
import inspect
import math
import pkgutil
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from mmdjax.diffusion import sde as sdes
from mmdjax.diffusion.predictions import NoiseFn
from mmdjax.diffusion.sde import SDE
from mmdjax.errors import choice, require


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


Constructor = Callable[..., Sampler]
_CONSTRUCTORS: dict[str, Constructor] = {}
_EXPLICIT: set[str] = set()


def register(name: str, explicit: bool = False) -> Callable[[Constructor], Constructor]:
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


def supports(name: str, sde: SDE) -> bool:
    choice("sampler", name, names())
    return sde.bounded or name not in _EXPLICIT


def make(name: str, sde: SDE, noise_fn: NoiseFn | None, **given: Any) -> Sampler:
    """Raises `UserError`: unknown name or option, or an SDE that the sampler does not support."""
    check_options(f"sampler {name!r}", given, options(name))
    require(
        supports(name, sde),
        f"sampler {name!r} does not support the SDE {sdes.name_of(sde)!r}, whose drift is "
        "infinite at t = 1",
        ", ".join(kind for kind, process in sdes.REGISTRY.items() if process().bounded),
    )
    return _CONSTRUCTORS[name](sde, noise_fn, **given)


def check_options(title: str, given: Iterable[str], allowed: Sequence[str]) -> None:
    """Raise `UserError` unless all `given` options are `allowed` ones."""
    for option in given:
        problem = f"{title} has no option {option!r}"
        require(option in allowed, problem, ", ".join(allowed) or "none")


def whole(sampler: str, option: str, value: object, least: int, most: int | None = None) -> None:
    """Raise `UserError` unless value is a whole number from `least` to `most`."""
    rule = f"{least}, {least + 1}, ..." if most is None else f"{least} to {most}"
    real(sampler, option, value, least, math.inf if most is None else most, rule, int)


def real(
    sampler: str,
    option: str,
    value: Any,
    least: float,
    most: float,
    rule: str,
    kind: Any = int | float,
) -> None:
    """Raise `UserError` unless value is a number from `least` to `most`, as `rule` says."""
    is_number = isinstance(value, kind) and not isinstance(value, bool)
    require(is_number and least <= value <= most, f"{sampler}: {option} = {value}", rule)


def steps_for(name: str, nfe: int, **given: Any) -> int:
    """Steps of the time grid that spend exactly `nfe` evaluations.

    Raises:
      UserError: `nfe` cannot be spent exactly. Methods that choose for themselves take nfe = 0.
    """
    each = make(name, sdes.VP(), None, **given).nfe
    if each == 0:
        require(nfe == 0, f"sampler {name!r} chooses its evaluations itself: NFE {nfe} given", "0")
        return 1
    rule = "a positive number" if each == 1 else f"a positive multiple of {each}"
    spendable = nfe >= 1 and nfe % each == 0
    require(spendable, f"sampler {name!r} cannot spend NFE {nfe} exactly", rule)
    return nfe // each
