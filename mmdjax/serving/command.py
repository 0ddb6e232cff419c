"""The modes of the command line that use a trained model, or look at a file."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from mmdjax.training.progress import LINE_SECONDS, terminal


def inspect(source: str, layout: str = "") -> None:
    """Prints what a file holds."""
    from mmdjax.data import inspect_file

    inspect_file.inspect(source, terminal(), layout)


def _load(model: tuple[Path, int | None]):
    from mmdjax.compilation import keep_programs
    from mmdjax.serving.imputer import Imputer

    keep_programs()
    return Imputer.load(*model)


def export(model: tuple[Path, int | None], output: Path, draws: int, level: float) -> None:
    """Writes the artefact; model: folder and seed, see `Imputer.load`."""
    from mmdjax.serving.export import export as write

    signature = write(_load(model), output, draws or None, level)
    platforms = ", ".join(signature["platforms"])
    size = output.stat().st_size / 2**20
    terminal().print(
        f"{output}: {size:.1f} MiB for {platforms}, {signature['draws']} draws an answer; "
        "loader.py inside needs jax and numpy",
        highlight=False,
        markup=False,
    )


def on_file(
    mode: str, model: tuple[Path, int | None], source: Path, output: Path, settings: dict
) -> None:
    """Imputes a file, or predicts from it.

    Args:
      settings: of `files.impute` or `files.predict`.
    """
    from mmdjax.serving import files

    if mode == "impute":
        settings["draws"] = settings["draws"] or 1
    imputer, started = _load(model), time.monotonic()
    with _bar("utterances") as advance:
        counts = getattr(files, mode)(imputer, source, output, advance=advance, **settings)
    empty = f", {counts['empty']} with nothing observed, left out" if counts["empty"] else ""
    terminal().print(
        f"{output}: {counts['utterances']} utterances, {counts['completed']} of them had gaps"
        f"{empty}; {time.monotonic() - started:.1f} s",
        highlight=False,
        markup=False,
    )


@contextlib.contextmanager
def _bar(name: str) -> Iterator[Callable[[int, int], None]]:
    """A bar with the time left; without a terminal, a line about every `LINE_SECONDS`."""
    columns = (
        TextColumn(name),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    console, started = terminal(), time.monotonic()
    told = started
    hidden = not console.is_terminal
    with Progress(*columns, console=console, disable=hidden, transient=True) as progress:
        task = progress.add_task(name, total=None)

        def advance(done: int, total: int) -> None:
            nonlocal told
            progress.update(task, completed=done, total=total)
            now = time.monotonic()
            if hidden and now - told > LINE_SECONDS:
                told, left = now, (now - started) / done * (total - done)
                line = f"{name}: {done}/{total}  at most {left:.0f} s left"
                console.print(line, markup=False, highlight=False)

        yield advance
