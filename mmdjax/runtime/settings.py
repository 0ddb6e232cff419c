"""Settings as dataclasses: plain values of declared types, inside bounds declared at the field."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmdjax.errors import UserError, choice


def field(
    default: Any,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
    names: Sequence[str] | Callable[[], Sequence[str]] | None = None,
    auto: bool = False,
) -> Any:
    """Declare a field with its bounds.

    Args:
      default: its value where the config says nothing.
      low, high: smallest and largest value. above, below: exclusive bounds.
      names: allowed names, or a function that returns them, such as a registry's.
      auto: 0 leaves the value to the data, see `mmdjax.config.sizes`.
    """
    bounds = {"low": low, "high": high, "above": above, "below": below, "names": names}
    bounds["auto"] = auto or None
    return dataclasses.field(
        default=default, metadata={k: b for k, b in bounds.items() if b is not None}
    )


def is_auto(settings: Any) -> bool:
    """Return whether a dataclass of settings, or one inside it, leaves some field to the data."""
    for entry in dataclasses.fields(settings):
        value = getattr(settings, entry.name)
        inside = dataclasses.is_dataclass(value) and is_auto(value)
        if inside or (entry.metadata.get("auto") and value == 0):
            return True
    return False


def dataclass_from(cls: type[Any], values: Mapping[str, Any], where: str) -> Any:
    """Return an instance of a dataclass whose fields have their types and lie inside their bounds.

    Args:
      where: names the instance in messages.

    Raises:
      UserError: an unknown field, a value of another type, or one out of bounds.
    """
    types = typing.get_type_hints(cls)
    for key in values:
        choice(f"{where} field", key, tuple(types))
    result = cls(**{key: _convert(types[key], v, f"{where}.{key}") for key, v in values.items()})
    for entry in dataclasses.fields(cls):
        value = getattr(result, entry.name)
        for item in value if isinstance(value, tuple) else (value,):
            _check_bounds(f"{where}.{entry.name}", item, entry.metadata)
    return result


def _check_bounds(name: str, value: Any, bounds: Mapping[str, Any]) -> None:
    if "names" in bounds:
        names = bounds["names"]
        choice(name, value, tuple(names() if callable(names) else names))
    if bounds.get("auto") and value == 0:
        return
    low, high, above, below = (bounds.get(key) for key in ("low", "high", "above", "below"))
    fits = (low is None or value >= low) and (above is None or value > above)
    if fits and (high is None or value <= high) and (below is None or value < below):
        return
    words = ["0 for a size that fits the data"] if bounds.get("auto") else []
    words += [f"at least {low:g}"] if low is not None else []
    words += [f"a number above {above:g}"] if above is not None else []
    words += [f"at most {high:g}"] if high is not None else []
    words += [f"below {below:g}"] if below is not None else []
    raise UserError(f"{name} = {value}; allowed: {' and '.join(words)}")


def _convert(kind: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, Mapping) and not hasattr(value, "items"):
            raise UserError(f"{where} = {value!r} is not a group of fields")
        return dataclass_from(kind, value, where)
    origin = typing.get_origin(kind)
    if origin is tuple:
        item = typing.get_args(kind)[0]
        values = (value,) if isinstance(value, int | float | str) else value
        if not isinstance(values, tuple | list):
            raise UserError(f"{where} = {value!r} is not a list of {item.__name__}")
        return tuple(_convert(item, v, where) for v in values)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or isinstance(value, bool) != (kind is bool):
        raise UserError(f"{where} = {value!r} is not of type {kind.__name__}")
    return value
