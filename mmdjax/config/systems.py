"""Which systems a run holds: a method and changes of the config each."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Sequence
from typing import Any

from mmdjax.errors import UserError
from mmdjax.runtime.settings import field


@dataclasses.dataclass(frozen=True)
class System:
    """One row of a comparison: the config with changes.

    Attributes:
      name: in the report.
      changes: 'field=value' of `mmdjax.config.Config`, as on the command line.
      method: of `mmdjax.methods`; '' for the config's.
      published: the method's name in the published tables; '' where they do not have it.
    """

    name: str = ""
    changes: tuple[str, ...] = ()
    method: str = ""
    published: str = ""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Named systems that share whatever phases they have in common.

    Attributes:
      systems: different names; the first is the one that the others are compared with.
      tables: published ones, as 'thesis 6.1', see `evaluation/published`.
      dataset: whose published numbers are shown.
      complete: averages count the complete pattern, and missing rate 0 (the thesis' tables 6.9 to
        6.12 do, its others do not).
      pictures: utterances in each t-SNE picture of drawn and true latents; 0 draws none.
      iterations, perplexity: of t-SNE.
    """

    systems: tuple[System, ...] = ()
    tables: tuple[str, ...] = ()
    dataset: str = "MOSI"
    complete: bool = True
    pictures: int = field(0, low=0)
    iterations: int = field(5000, low=1)
    perplexity: int = field(8, low=1)


NO_COMPARISON = Comparison()


def changed(values: dict[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """Return a config's plain values with 'field=value' applied.

    Raises:
      UserError: no such field.
    """
    for text in changes:
        path, _, value = text.partition("=")
        values = _replaced(values, path.split("."), _literal(value), text)
    return values


def _replaced(values: dict, path: Sequence[str], value: Any, text: str) -> dict:
    name, *rest = path
    if name not in values or (rest and not isinstance(values[name], dict)):
        raise UserError(f"a system's change {text!r} names no field; allowed: 'field=value'")
    return values | {name: _replaced(values[name], rest, value, text) if rest else value}


def _literal(text: str) -> Any:
    """A Python literal, or the text itself, as flags are read."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
