"""SIGTERM and SIGINT: a preempted run saves and ends.

Inside `deferred` a signal waits for the next `check`, where what was computed can be saved;
elsewhere it is an exception at once. Several processes stop at the same check: JAX's preemption
service agrees on one when any of them gets a SIGTERM.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator


class Stopped(KeyboardInterrupt):
    """A signal asked the run to end; everything is saved."""


class _Signals:
    """The last signal, whether this is one of `several` processes, the depth of `deferred`, and
    the number of checks so far."""

    several: bool = False
    caught: str = ""
    deferring: int = 0
    checks: int = 0


def _caught(number: int, _: object) -> None:
    again, _Signals.caught = bool(_Signals.caught), signal.Signals(number).name
    if again and number == signal.SIGINT:  # Ctrl-C pressed twice: the user does not want to wait
        raise KeyboardInterrupt
    if _Signals.several:
        os.kill(os.getpid(), signal.SIGTERM)  # the preemption service listens to this one
    elif not _Signals.deferring:
        raise Stopped(_Signals.caught)


def listen(several: bool = False) -> None:
    """Handles both signals from here on; several: after the processes of a run have met."""
    _Signals.several = several
    signal.signal(signal.SIGINT, _caught)
    if not several:  # their SIGTERM is JAX's
        signal.signal(signal.SIGTERM, _caught)


def several() -> bool:
    """Returns whether this is one of several processes."""
    return _Signals.several


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Makes signals wait for a `check`."""
    _Signals.deferring += 1
    try:
        yield
    finally:
        _Signals.deferring -= 1


def check() -> None:
    """Raises `Stopped` where the run is to stop; every process has to make the same checks."""
    _Signals.checks += 1
    if _Signals.several:
        from jax.experimental import (
            multihost_utils,
        )  # takes a second: a mistyped flag need not wait

        if multihost_utils.reached_preemption_sync_point(_Signals.checks):
            raise Stopped("SIGTERM")
    elif _Signals.caught:
        raise Stopped(_Signals.caught)
