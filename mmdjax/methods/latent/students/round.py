"""One thing that a student learns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from mmdjax.types import Params


def itself(params: Params) -> Params:
    """Return the parameters as they are."""
    return params


class Round(NamedTuple):
    """A phase of training of a student.

    Attributes:
      name, title: of the phase.
      error: of `losses.given_others`.
      start: the phase whose parameters it starts from.
      taught: whether the error wants these parameters beside those that are trained.
      begin: (parameters of `start`) -> those that training begins with, stacked over modalities.
      steps: of training, at most, in whole epochs of which there is one at least; 0 for as many as
        the config says.
      beside: what is learned is a solver, and draws beside the networks of `start`.
    """

    name: str
    title: str
    error: Callable
    start: str = "score"
    taught: bool = False
    begin: Callable[[Any], Any] = itself
    steps: int = 0
    beside: bool = False
