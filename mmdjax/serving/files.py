"""`--mode=impute` and `--mode=predict`: files of any known layout, in blocks of rows."""

from __future__ import annotations

import contextlib
import csv
import itertools
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from mmdjax.data.formats import folders
from mmdjax.data.formats.contents import Contents, open_contents, write_copy
from mmdjax.errors import UserError, choice, require
from mmdjax.runtime.files import csv_cell
from mmdjax.serving.blocks import Block, Completed, Split
from mmdjax.serving.imputer import Imputer

NOTHING: Mapping[str, str] = MappingProxyType({})
Advance = Callable[[int, int], None]  # rows done, rows of all


@contextlib.contextmanager
def _opened(
    imputer: Imputer,
    source: str | os.PathLike,
    output: Path,
    copied: bool,
    renamed: Mapping[str, str],
) -> Iterator[tuple[Contents, list[Split], Path]]:
    """Open a file, with a temporary folder where the output will be: renaming it is then atomic.

    Args:
      copied: what a folder holds is to be copied, which needs room.
      renamed: see `impute`.
    """
    _check_new(output)
    for name in renamed:
        choice("modality", name, [m.name for m in imputer.modalities])
    size = folders.bytes_inside(Path(source)) if os.path.isdir(source) else 0
    with open_contents(source) as contents:
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
            prefix = f".{output.name[:50]}."
            temporary = tempfile.TemporaryDirectory(dir=output.parent, prefix=prefix)
        except OSError as error:
            raise UserError(f"{str(output)!r} cannot be written: {error.strerror}") from None
        with temporary as folder:
            free = shutil.disk_usage(folder).free
            problem = f"{str(source)!r} holds {size / 1e9:.1f} GB, and {free / 1e9:.1f} are free"
            require(size <= free or not copied, problem, "more room where the output is to be")
            splits = [Split(imputer, contents, name, renamed) for name in contents.splits]
            yield contents, splits, Path(folder)


def _blocks(splits: list[Split], counts: dict, advance: Advance | None) -> Iterator[Block]:
    """Yield the blocks of all splits; count each when the next one is asked for."""
    counts |= {"utterances": 0, "completed": 0, "empty": 0, "long": 0}
    total = sum(len(split.part) for split in splits)
    for block in itertools.chain.from_iterable(split.blocks() for split in splits):
        yield block
        counts["utterances"] += len(block.some)
        counts["completed"] += int((block.gaps & block.some).sum())
        counts["long"] += len(block.given.left_out)
        counts["empty"] += int((~block.some).sum()) - len(block.given.left_out)
        if advance:
            advance(counts["utterances"], total)


def impute(
    imputer: Imputer,
    source: str | os.PathLike,
    output: str | os.PathLike,
    draws: int = 1,
    seed: int = 0,
    advance: Advance | None = None,
    renamed: Mapping[str, str] = NOTHING,
) -> dict[str, int]:
    """Write the same file with its gaps filled, and beside each modality KEY
    'KEY_drawn', (N, T) bool or sequences of it: True where a frame was drawn. Of K > 1 draws the
    file holds the average, and 'KEY_spread' (N,), see `Imputed`.

    A modality that the file does not hold is drawn for every utterance, and stands beside the
    others. Observed values are copied bit for bit. Utterances of which nothing is observed, and
    modalities that the model does not know, are left as they are.

    Args:
      renamed: modality -> its key in this file, of those that have another than in training.

    Returns:
      Numbers of 'utterances', of 'completed' ones, and of those that are left as they are: 'empty'
      ones, with nothing observed, and 'long' ones, sequences of more frames than the model has.

    Raises:
      UserError: the file is not as its layout demands, lacks a modality of the model, or the output
        exists or cannot be written.
    """
    counts, columns, replaced, added = {}, {}, {}, {}
    with _opened(imputer, source, Path(output), True, renamed) as (contents, splits, folder):
        for split in splits:
            for m, rows in split.columns.items():
                path = folder / f"{len(columns)}"
                columns[split.name, m] = Completed(path, rows, m in split.absent)
        for block in _blocks(splits, counts, advance):
            rows = block.to_complete()
            filled = block.ask(imputer.impute, rows, draws=draws, seed=seed)
            for m, raw in block.raw.items():
                columns[block.split.name, m].append(raw, filled, m, rows)
        for split in splits:
            for m, key in (split.keys | split.absent).items():
                column, name = columns[split.name, m], re.sub(r"\[(\d+):(\d+)\]$", r"_\1_\2", key)
                if any(frames.any() for frames in column.drawn):
                    (added if m in split.absent else replaced)[split.name, key] = column.rows()
                added[split.name, f"{name}_drawn"] = column.mask()
                if draws > 1:
                    added[split.name, f"{name}_spread"] = np.array(column.spread, np.float32)
        write_copy(contents, output, replaced, added)
    return counts


def predict(
    imputer: Imputer,
    source: str | os.PathLike,
    output: str | os.PathLike,
    draws: int | None = None,
    seed: int = 0,
    level: float = 0.9,
    advance: Advance | None = None,
    renamed: Mapping[str, str] = NOTHING,
) -> dict[str, int]:
    """Write a CSV with a line an utterance: split, id, the columns of the model's task, such as the
    prediction and the ends of its interval (`Task.columns`), and what was observed; the columns are
    empty where nothing was.

    Args, returns, raises: as `impute`.
    """
    output, columns, counts = Path(output), imputer.task.columns(), {}
    settings = {"draws": draws, "seed": seed, "level": level}
    with _opened(imputer, source, output, False, renamed) as (_, splits, folder):
        temporary = folder / "predictions.csv"
        with temporary.open("w", newline="", encoding="utf-8", errors="replace") as file:
            table = csv.writer(file)
            table.writerow(("split", "id", *map(csv_cell, columns), "observed"))
            for block in _blocks(splits, counts, advance):
                rows = np.flatnonzero(block.some)
                predicted = block.ask(imputer.predict, rows, **settings)
                lines = imputer.task.lines(predicted._asdict()) if predicted else ()
                cells = dict(zip(rows.tolist(), lines, strict=True))
                for row in range(len(block.some)):
                    values = cells.get(row, ("",) * len(columns))
                    observed = "+".join(m for m, shows in block.shows.items() if shows[row])
                    name = block.split.part.id[block.start + row]
                    table.writerow(map(csv_cell, (block.split.name, name, *values, observed)))
        _check_new(output)
        os.replace(temporary, output)
    return counts


def _check_new(output: Path) -> None:
    require(not os.path.lexists(output), f"{str(output)!r} exists", "a new name")
