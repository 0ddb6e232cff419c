"""What a user sees while a run works: bars with speed and time left, and TensorBoard events."""

from __future__ import annotations

import contextlib
import re
import time
from pathlib import Path

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
from mmdjax.runtime.trace import Trace

LINE_SECONDS = 20.0  # without a terminal: one line about this often


class Phase:
    """Progress of one phase; `advance` costs no synchronisation with the device."""

    def __init__(self, name, total, progress, console, writer):
        self._name, self._total, self._progress = name, total, progress
        self._console, self._writer = console, writer
        self._done, self._started, self._line = 0, time.monotonic(), time.monotonic()
        self._first, self._note = 0, ""
        self._tag = re.sub(r"\W+", "_", name)  # what TensorBoard takes without complaint
        self._task = progress.add_task(name, total=total, note="", speed="")

    def start_at(self, done: int) -> None:
        self._first = self._done = done
        self._progress.update(self._task, completed=done)

    def advance(self) -> None:
        self.at(self._done + 1, self._total)

    def at(self, done: int, total: int) -> None:
        self._done, self._total = done, total
        elapsed = max(time.monotonic() - self._started, 1e-9)
        speed = (self._done - self._first) / elapsed
        self._progress.update(self._task, completed=done, total=total, speed=f"{speed:.1f}/s")
        if not self._console.is_terminal and time.monotonic() - self._line > LINE_SECONDS:
            self._line = time.monotonic()
            left = (self._total - self._done) / max(speed, 1e-9)
            self._console.print(
                f"{self._name}: {self._done}/{self._total}  {speed:.1f}/s  "
                f"at most {left:.0f} s left  {self._note}",
                markup=False,
            )

    def epoch(self, epoch: int, train: float, valid: float) -> None:
        self._note = f"epoch {epoch}  loss {train:.4f}  valid {valid:.4f}"
        self._progress.update(self._task, note=self._note)
        for tag, value in (("train", train), ("valid", valid)):
            self._writer.add_scalar(f"{self._tag}/{tag}", value, epoch)


def terminal() -> Console:
    """The terminal; as wide as the tables need where output goes to a file."""
    console = Console()
    return console if console.is_terminal else Console(width=140)


class Reporter:
    """Owns the terminal and the event file of a run."""

    def __init__(self, folder: Path | None = None, profile: Path | None = None):
        """folder: of events. profile: of traces of training phases, if any.

        Of several processes the first one alone is seen."""
        first = processes.is_first()
        self.console = terminal()
        self.console.quiet = not first
        self._writer, self._profile = _Events(folder if first else None), profile

    def trace(self, name: str) -> Trace:
        return Trace(self._profile / re.sub(r"\W+", "_", name) if self._profile else None)

    @contextlib.contextmanager
    def phase(self, name: str, total: int):
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        hidden = not self.console.is_terminal
        with Progress(*columns, console=self.console, disable=hidden, transient=True) as progress:
            phase = Phase(name, total, progress, self.console, self._writer)
            started = time.monotonic()
            yield phase
        took = time.monotonic() - started
        if took > 1:
            self.print(f"{name}: {took:.0f} s  {phase._note}")

    def print(self, thing) -> None:
        """A table, or a line of text as it is."""
        self.console.print(thing, highlight=False, markup=False)

    def close(self) -> None:
        self._writer.close()


class _Events:
    """TensorBoard's event file, opened with its first value: an evaluation has none."""

    def __init__(self, folder: Path | None):
        self._folder, self._writer = folder, None

    def add_scalar(self, *args) -> None:
        if self._writer is None and self._folder is not None:
            from tensorboardX import SummaryWriter

            self._writer = SummaryWriter(str(self._folder))
        if self._writer is not None:
            self._writer.add_scalar(*args)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
