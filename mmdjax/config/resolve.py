"""From a run's config to its systems, each with a method and a config of its own."""

from __future__ import annotations

import dataclasses
from typing import Any

from mmdjax.config.groups import from_dict, to_dict
from mmdjax.config.systems import changed
from mmdjax.errors import UserError
from mmdjax.methods.method import FORMER, Method, of_name, registry


@dataclasses.dataclass(frozen=True)
class Resolved:
    """A system ready to be built: its name in tables, its method, and its whole config."""

    name: str
    method: type[Method]
    config: Any
    published: str = ""


def systems_of(config) -> list[Resolved]:
    """Return the systems of a run, the first one being what it is about.

    Args:
      config: `mmdjax.config.Config`.

    Raises:
      UserError: a system that does not exist, cannot do what the config asks for, has another's
        name, or changes the data.
    """
    if config.comparison.systems:
        return _named(config)
    texts = config.systems or of_name(config.method).companions
    systems = [main_system(config)]
    for text in texts:
        method, *changes = text.split()
        system = _system(config, method, tuple(changes))
        # A yardstick or companion that the data do not allow is not missed; what was asked for is.
        if (system.method.yardstick or not config.systems) and not _able(system):
            continue
        if system.name in {s.name for s in systems}:
            if not config.systems or not changes:
                continue
            system = dataclasses.replace(system, name=f"{system.name} ({', '.join(changes)})")
        systems.append(system)
    for system in systems:
        _check(system)
    return systems


def main_system(config) -> Resolved:
    """Return the system that a run without a comparison is about."""
    return _system(config, config.method, ())


def _check(system: Resolved) -> None:
    """Raise `UserError` where a system cannot do what its config asks for."""
    cls = system.method
    cls.check(system.config)
    if system.config.evaluation.gaps and not (cls.gaps or cls.yardstick):
        able = ", ".join(name for name, other in registry().items() if other.gaps)
        raise UserError(
            f"config.evaluation.gaps with method {cls.name!r}, which takes whole modalities; "
            f"allowed: {able}"
        )


def _able(system: Resolved) -> bool:
    try:
        _check(system)
    except UserError:
        return False
    return True


def _named(config) -> list[Resolved]:
    entries, names = config.comparison.systems, set()
    for entry in entries:
        if not entry.name or entry.name in names:
            raise UserError(
                f"config.comparison.systems names {entry.name!r}; allowed: different names"
            )
        names.add(entry.name)
        if entry.method in FORMER:
            raise UserError(
                f"system {entry.name!r}: method {entry.method!r} has a new name; allowed: "
                f"{FORMER[entry.method]}"
            )
    systems = [
        _system(config, e.method or config.method, e.changes, e.name, e.published) for e in entries
    ]
    shown = {s.method.name for s in systems}
    for system in systems:
        _check(system)
    # Yardsticks of every comparison, where they apply.
    yardsticks = [_system(config, n, ()) for n in ("linear_probe", "bayes") if n not in shown]
    return systems + [s for s in yardsticks if _able(s)]


def _system(config, method: str, changes, name: str = "", published: str = "") -> Resolved:
    if not changes and method == config.method and not config.comparison.systems:
        own = dataclasses.replace(config, systems=())
    else:
        values = changed(to_dict(config), changes)
        method = values["method"] if values["method"] != config.method else method
        values |= {"method": method, "comparison": {}, "systems": ()}
        own = from_dict(values)
        for group in ("data", "task", "seeds"):
            if getattr(own, group) != getattr(config, group):
                raise UserError(
                    f"system {name or method!r} changes {group}; allowed: the same for all systems"
                )
    cls = registry()[own.method]
    label = f"{cls.label}, K = {own.evaluation.draws}" if cls.draws else cls.label
    if not name:  # a comparison says itself beside which published number a system stands
        name, published = cls.describe(own, label), cls.published
    return Resolved(name, cls, own, published)
