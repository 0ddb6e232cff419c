"""From a run's config to its systems, each with a method and a config of its own."""

from __future__ import annotations

import ast
import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

from mmdjax.config import Config, from_dict, to_dict
from mmdjax.data.missing.gaps import FRAMES
from mmdjax.errors import UserError, require
from mmdjax.methods.method import FORMER, Method, of_name, registry
from mmdjax.methods.recipes import FAST, FIELDS
from mmdjax.methods.settings import Diffusion

PICKED = ", epoch picked on test"  # behind the name of a system whose epoch is
YARDSTICKS = ("linear_probe", "bayes")  # of every comparison, where they apply


@dataclasses.dataclass(frozen=True)
class Resolved:
    """A system ready to be built: its name in tables, its method, and its whole config."""

    name: str
    method: type[Method]
    config: Any
    published: str = ""


def systems_of(config: Config) -> list[Resolved]:
    """Return the systems of a run, the first one being what it is about.

    Args:
      config: `mmdjax.config.Config`.

    Raises:
      UserError: a system that does not exist, cannot do what the config asks for, has another's
        name, or changes the data.
    """
    systems: list[Resolved] = []
    for entry in config.comparison.systems:
        name, method = entry.name, entry.method or config.method
        fits = name and name not in {s.name for s in systems}
        require(fits, f"config.comparison.systems names {name!r}", "different names")
        if method in FORMER:
            problem = f"system {name!r}: method {method!r} has a new name"
            raise UserError(f"{problem}; allowed: {FORMER[method]}")
        systems.append(_system(config, method, entry.changes, name, entry.published))
    # A yardstick or companion that the data do not allow is not missed; what was asked for is.
    if systems:
        shown, asked = {s.method.name for s in systems}, ()
        others = [name for name in YARDSTICKS if name not in shown]
    else:
        systems, asked = [main_system(config)], config.systems
        others = asked or of_name(config.method).companions
    for text in others:
        method, *changes = text.split()
        system = _system(config, method, changes)
        if (system.method.yardstick or not asked) and _refusal(system):
            continue
        if system.name in {s.name for s in systems}:
            if not asked or not changes:
                continue
            system = dataclasses.replace(system, name=f"{system.name} ({', '.join(changes)})")
        systems.append(system)
    for refusal in filter(None, map(_refusal, systems)):
        raise refusal
    return [_picked(system, on_test=False) for system in systems]


def picked_on_test(system: Resolved) -> Resolved:
    """Return the system whose epochs are picked on test data (`Evaluation.as_published`)."""
    return _picked(dataclasses.replace(system, name=system.name + PICKED), on_test=True)


def _picked(system: Resolved, on_test: bool) -> Resolved:
    evaluation = dataclasses.replace(system.config.evaluation, as_published=on_test)
    return dataclasses.replace(
        system, config=dataclasses.replace(system.config, evaluation=evaluation)
    )


def main_system(config: Config) -> Resolved:
    """Return the system that a run without a comparison is about."""
    return _picked(_system(config, config.method), on_test=False)


def _refusal(system: Resolved) -> UserError | None:
    """Return why a system cannot do what its config asks for."""
    method, config = system.method, system.config
    try:
        method.check(config)
        able = ", ".join(name for name, other in registry().items() if other.gaps)
        inside = any(name in FRAMES for name, *_ in config.evaluation.generators())
        problem = f"config.evaluation.gaps inside modalities with method {method.name!r}"
        require(not inside or method.gaps or method.yardstick, problem, able)
    except UserError as error:
        return error
    return None


def _system(
    config: Config, method: str, changes: Sequence[str] = (), name: str = "", published: str = ""
) -> Resolved:
    """Return the system of a method and of changes of the config."""
    if not changes and method == config.method and not config.comparison.systems:
        settings = dataclasses.replace(config, systems=())
    else:
        # What the recommended recipe is depends on the method and on the changes.
        anew = (f"diffusion.recipe={FAST}",) if config.diffusion.recipe == FAST else ()
        values = changed(to_dict(config), (*anew, *changes))
        method = values["method"] if values["method"] != config.method else method
        settings = from_dict(values | {"method": method, "comparison": {}, "systems": ()})
        for group in ("data", "task", "seeds"):
            same = getattr(settings, group) == getattr(config, group)
            changing = f"system {name or method!r} changes {group}"
            require(same, changing, "the same for all systems")
    cls = registry()[settings.method]
    if not name:  # a comparison says itself beside which published number a system stands
        label = f"{cls.label}, K = {settings.evaluation.draws}" if cls.draws else cls.label
        name, published = cls.describe(settings, label), cls.published
    return Resolved(name, cls, settings, published)


def changed(values: dict[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """Return a config's plain values with changes 'field=value' applied.

    A value is a Python literal, or otherwise the text itself, as flags are read. Another recipe
    takes the place of all that the config's own one said.

    Raises:
      UserError: no such field.
    """
    values = copy.deepcopy(values)
    for text in changes:
        path, _, literal = text.partition("=")
        *groups, name = path.split(".")
        place: Any = values
        for group in groups:
            place = place.get(group) if isinstance(place, dict) else None
        fits = isinstance(place, dict) and name in place
        require(fits, f"a system's change {text!r} names no field", "'field=value'")
        former = place[name]
        try:
            place[name] = ast.literal_eval(literal)
        except (ValueError, SyntaxError):
            place[name] = literal
        if path == "diffusion.recipe" and former and place[name]:
            plain = dataclasses.asdict(Diffusion())
            place |= {field: plain[field] for field in FIELDS}
    return values
