"""The output of a working run: bars with speed and time left, TensorBoard events, and traces."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from mmdjax.runtime import processes

COMPILING = "compiling"
LINE_SECONDS = 20.0  # without a terminal: one line about this often
FIRST, STEPS = 10, 20  # of a trace; the steps before are compiling and warming up


class Phase:
    """Progress of one phase; `advance` costs no synchronisation with the device.

    The first step compiles: until it is done the bar says so, and speed and time left are those of
    the steps after it.
    """

    def __init__(self, name: str, total: int, progress: Progress, writer: _Events) -> None:
        """total: 0 where it is not known yet."""
        self._name, self._total, self._progress, self._writer = name, total, progress, writer
        self._done, self._first, self._started = 0, None, 0.0
        self._task = progress.add_task(name, total=None, note=COMPILING, speed="")
        self._printed, self.note = time.monotonic(), ""
        # Without a terminal nothing moves meanwhile.
        self._silence = threading.Timer(LINE_SECONDS, self._tell_compiling)
        self._silence.daemon = True
        if not progress.console.is_terminal:
            self._silence.start()

    def _tell_compiling(self) -> None:
        self._progress.console.print(f"{self._name}: {COMPILING}", markup=False)

    def start_at(self, done: int) -> None:
        self._done = done

    def advance(self) -> None:
        self.at(self._done + 1, self._total)

    def at(self, done: int, total: int) -> None:
        self._done, self._total = done, total
        now, console = time.monotonic(), self._progress.console
        if self._first is None:
            self._silence.cancel()
            self._first, self._started, self._printed = done, now, now
            self._progress.reset(self._task, total=total, completed=done, note=self.note, speed="")
            return
        speed = (done - self._first) / max(now - self._started, 1e-9)
        self._progress.update(self._task, completed=done, total=total, speed=f"{speed:.1f}/s")
        if not console.is_terminal and now - self._printed > LINE_SECONDS:
            self._printed, left = now, (total - done) / max(speed, 1e-9)
            line = f"{self._name}: {done}/{total}  {speed:.1f}/s  at most {left:.0f} s left"
            console.print(f"{line}  {self.note}", markup=False)

    def end(self) -> None:
        self._silence.cancel()

    def epoch(self, epoch: int, train: float, valid: float) -> None:
        self.note = f"epoch {epoch}  loss {train:.4f}  valid {valid:.4f}"
        self._progress.update(self._task, note=self.note)
        for kind, value in (("train", train), ("valid", valid)):
            self._writer.add_scalar(f"{_tag(self._name)}/{kind}", value, epoch)


def _tag(name: str) -> str:
    """A name that TensorBoard and file systems take without complaint."""
    return re.sub(r"\W+", "_", name)


def terminal() -> Console:
    """Returns the terminal; a file gets lines as wide as the tables need."""
    console = Console()
    return console if console.is_terminal else Console(width=140)


class Reporter:
    """Owns the terminal and the event file of a run."""

    def __init__(self, folder: Path | None = None, profile: Path | None = None) -> None:
        """folder: of events. profile: of traces of training phases, if any.

        Of several processes only the first one prints and writes events."""
        self.console = terminal()
        self.console.quiet = not processes.is_first()
        self._writer = _Events(folder if processes.is_first() else None)
        self._profile = profile

    def trace(self, name: str) -> Trace:
        return Trace(self._profile / _tag(name) if self._profile else None)

    @contextlib.contextmanager
    def phase(self, name: str, total: int) -> Iterator[Phase]:
        columns = (
            TextColumn("{task.description}", markup=False),  # names of modalities hold anything
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        hidden = not self.console.is_terminal
        with Progress(*columns, console=self.console, disable=hidden, transient=True) as progress:
            phase, started = Phase(name, total, progress, self._writer), time.monotonic()
            try:
                yield phase
            finally:
                phase.end()
        seconds = time.monotonic() - started
        if seconds > 1:
            self.print(f"{name}: {seconds:.0f} s  {phase.note}")

    def print(self, thing: object) -> None:
        """Prints a table, or a line of text as it is."""
        self.console.print(thing, highlight=False, markup=False)

    def close(self) -> None:
        self._writer.close()


class _Events:
    """TensorBoard's event file, opened with its first value: an evaluation has no file."""

    def __init__(self, folder: Path | None) -> None:
        self._folder, self._writer = folder, None

    def add_scalar(self, *args: Any) -> None:
        if self._writer is None and self._folder is not None:
            from tensorboardX import SummaryWriter

            self._writer = SummaryWriter(str(self._folder))
        if self._writer is not None:
            self._writer.add_scalar(*args)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class Trace:
    """Records training steps FIRST to FIRST + STEPS - 1 of a phase, for TensorBoard or Perfetto.

    Without a folder (`--profile`) it does nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder, self._step, self._recording = folder, 0, False

    def step(self, state: Any) -> None:
        """Has to be called after each step; state: its result, which may still be computed."""
        if self._folder is None:
            return
        self._step += 1
        if self._step == FIRST:
            jax.block_until_ready(state)
            options = jax.profiler.ProfileOptions()
            options.python_tracer_level = 0  # every call of Python: slower than small steps are
            jax.profiler.start_trace(str(self._folder), profiler_options=options)
            self._recording = True
        elif self._step == FIRST + STEPS:
            self.end(state)

    def end(self, state: Any) -> None:
        """Ends the trace; called at the end of a phase, which may have fewer steps."""
        if self._recording:
            jax.block_until_ready(state)
            jax.profiler.stop_trace()
            self._recording = False
