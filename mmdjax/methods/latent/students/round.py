"""One thing that a student learns."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Round(NamedTuple):
    """A phase of training of a student.

    Attributes:
      name, title: of the phase.
      error: of `losses.given_others`.
      start: the phase whose parameters it starts from.
      taught: whether the error wants these parameters beside those that are trained.
      init: (key) -> parameters of a solver, which are trained while the networks stay; None where
        networks are trained.
    """

    name: str
    title: str
    error: Callable
    start: str = "score"
    taught: bool = False
    init: Callable | None = None
