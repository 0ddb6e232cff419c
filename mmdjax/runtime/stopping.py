"""SIGTERM and SIGINT: a preempted run saves and ends.

Inside `deferred` a signal waits for the next `check`, where what was computed can be saved;
elsewhere it is an exception at once. Several processes stop at the same check: JAX's preemption
service agrees on one when any of them gets a SIGTERM.
"""

from __future__ import annotations

import contextlib
import os
import signal


class Stopped(KeyboardInterrupt):
    """A signal asked the run to end; everything is saved."""


class _Signals:
    """What this process was told, and whether it is one of `several`. deferring: depth of
    `deferred`. checks: made so far."""

    several: bool = False
    caught: str = ""
    deferring: int = 0
    checks: int = 0


_SIGNALS = _Signals()


def _caught(number: int, _) -> None:
    again, _SIGNALS.caught = bool(_SIGNALS.caught), signal.Signals(number).name
    if again and number == signal.SIGINT:  # whoever presses twice does not want to wait
        raise KeyboardInterrupt
    if _SIGNALS.several:
        os.kill(os.getpid(), signal.SIGTERM)  # which the preemption service listens to
    elif not _SIGNALS.deferring:
        raise Stopped(_SIGNALS.caught)


def listen(several: bool = False) -> None:
    """Handles both signals from here on; several: after the processes of a run have met."""
    _SIGNALS.several = several
    signal.signal(signal.SIGINT, _caught)
    if not several:  # their SIGTERM is JAX's
        signal.signal(signal.SIGTERM, _caught)


def several() -> bool:
    """Whether this is one of several processes."""
    return _SIGNALS.several


@contextlib.contextmanager
def deferred():
    """Signals wait for a `check`."""
    _SIGNALS.deferring += 1
    try:
        yield
    finally:
        _SIGNALS.deferring -= 1


def check() -> None:
    """Raises `Stopped` where the run is to stop; every process has to make the same checks."""
    _SIGNALS.checks += 1
    if _SIGNALS.several:
        from jax.experimental import multihost_utils  # a second, that a mistyped flag need not wait

        if multihost_utils.reached_preemption_sync_point(_SIGNALS.checks):
            raise Stopped("SIGTERM")
    elif _SIGNALS.caught:
        raise Stopped(_SIGNALS.caught)
