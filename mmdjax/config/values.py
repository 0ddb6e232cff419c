"""Plain values into dataclasses of declared types."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

from mmdjax.errors import UserError, choice


def dataclass_from(cls, values: Mapping[str, Any], where: str):
    """An instance of a dataclass, its fields' types checked; `where` names it in messages.

    Raises:
      UserError: an unknown field, or a value of another type.
    """
    types = typing.get_type_hints(cls)
    for key in values:
        choice(f"{where} field", key, tuple(types))
    return cls(**{key: _convert(types[key], v, f"{where}.{key}") for key, v in values.items()})


def _convert(kind, value, where: str):
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
