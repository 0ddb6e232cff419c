"""`--mode=impute` and `--mode=predict`: files of any known layout, in blocks of rows."""

from __future__ import annotations

import contextlib
import csv
import itertools
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from mmdjax.data.formats import lazy
from mmdjax.data.formats.contents import Contents, open_contents, part_rows, write_copy
from mmdjax.errors import UserError
from mmdjax.serving.blocks import Spool, blocks, folder_beside, keys_of
from mmdjax.serving.imputer import Imputer

Advance = Callable[[int, int], None]  # rows done, rows of all


def impute(
    imputer: Imputer,
    source,
    output,
    draws: int = 1,
    seed: int = 0,
    advance: Advance = lambda done, total: None,
) -> dict[str, int]:
    """Write the same file with its gaps filled, and beside each modality KEY
    'KEY_drawn', (N, T) bool or sequences of it: True where a frame was drawn. Of K > 1 draws the
    file holds the average, and 'KEY_spread' (N,), see `Imputed`.

    Observed values are copied bit for bit. Utterances of which nothing is observed, and
    modalities that the model does not know, are left as they are.

    Returns:
      Numbers of 'utterances', of 'completed' ones and of 'empty' ones, with nothing observed.

    Raises:
      UserError: the file is not as its layout demands, lacks a modality of the model, or the output
        exists or cannot be written.
    """
    output = Path(output)
    _check_new(output)
    counts = {"utterances": 0, "completed": 0, "empty": 0}
    with contextlib.ExitStack() as stack:
        contents = stack.enter_context(open_contents(source))
        spool = Path(stack.enter_context(folder_beside(output)))
        total, number = _rows_of(contents), itertools.count()
        replaced, added = {}, {}
        for split, part in contents.splits.items():
            keys = keys_of(imputer, contents, split, part)
            made = {m: Spool(spool / f"{next(number)}") for m in keys}
            masks, spreads = ({m: [] for m in keys} for _ in range(2))
            for block in blocks(imputer, contents, split, keys):
                chosen = block.to_complete()
                counts["completed"] += int((block.gaps & block.some).sum())
                counts["empty"] += int((~block.some).sum())
                counts["utterances"] += len(block.some)
                filled = None
                if chosen.size:
                    asked, talk = block.rows(chosen)
                    with _naming(contents, split):
                        filled = imputer.impute(asked, draws=draws, seed=seed, **talk)
                for m, given in block.given.items():
                    whole, drawn, spread = _merged(given, filled, m, chosen, draws)
                    made[m].append(whole)
                    masks[m] += drawn
                    spreads[m].append(spread)
                advance(counts["utterances"], total)
            for m, key in keys.items():
                like, name = part_rows(part, key), re.sub(r"\[(\d+):(\d+)\]$", r"_\1_\2", key)
                if any(drawn.any() for drawn in masks[m]):
                    replaced[split, key] = made[m].rows(like)
                mask = masks[m]
                if not lazy.is_ragged(like):
                    mask = np.stack(mask) if mask else np.zeros((0, like.shape[1]), bool)
                added[split, f"{name}_drawn"] = mask
                if draws > 1:
                    none = np.zeros(0, np.float32)
                    added[split, f"{name}_spread"] = np.concatenate([none, *spreads[m]])
        write_copy(contents, output, replaced, added)
    return counts


def predict(
    imputer: Imputer,
    source,
    output,
    draws: int | None = None,
    seed: int = 0,
    level: float = 0.9,
    advance: Advance = lambda done, total: None,
) -> dict[str, int]:
    """Write a CSV with a line an utterance: split, id, the columns of the model's task, such as the
    prediction and the ends of its interval (`Task.columns`), and what was observed; the columns are
    empty where nothing was.

    Returns, raises: as `impute`.
    """
    output = Path(output)
    _check_new(output)
    counts = {"utterances": 0, "completed": 0, "empty": 0}
    with contextlib.ExitStack() as stack:
        contents = stack.enter_context(open_contents(source))
        temporary = Path(stack.enter_context(folder_beside(output))) / "made.csv"
        total = _rows_of(contents)
        with temporary.open("w", newline="", encoding="utf-8", errors="replace") as file:
            table = csv.writer(file)
            columns = imputer.task.columns()
            table.writerow(("split", "id", *columns, "observed"))
            for split, part in contents.splits.items():
                keys = keys_of(imputer, contents, split, part)
                for block in blocks(imputer, contents, split, keys):
                    some = np.flatnonzero(block.some)
                    numbers = [("",) * len(columns)] * len(block.some)
                    if some.size:
                        settings = {"draws": draws, "seed": seed, "level": level}
                        asked, talk = block.rows(some)
                        with _naming(contents, split):
                            found = imputer.predict(asked, **settings, **talk)
                        lines = imputer.task.lines(found._asdict())
                        for row, values in zip(some, lines, strict=True):
                            numbers[row] = values
                    for row, values in enumerate(numbers):
                        shown = [m for m, some in block.shows.items() if some[row]]
                        name = part.id[block.start + row]
                        table.writerow((split, name, *values, "+".join(shown)))
                    counts["utterances"] += len(numbers)
                    counts["completed"] += int((block.gaps & block.some).sum())
                    counts["empty"] += int((~block.some).sum())
                    advance(counts["utterances"], total)
        _check_new(output)
        os.replace(temporary, output)
    return counts


def _merged(given, filled, m: str, chosen: np.ndarray, draws: int):
    """The block with what was drawn, as the file has it; what was drawn; and the spread.

    Args:
      filled: `Imputed` of the rows `chosen`; None if there are none.
    """
    whole = given.copy() if isinstance(given, np.ndarray) else list(given)
    drawn = [np.zeros(len(x), bool) for x in given]
    spread = np.zeros(len(given), np.float32)
    for place, row in enumerate(chosen):
        made = filled.features[m] if draws == 1 else filled.features[m].mean(0)
        spread[row] = filled.spread[m][place]
        if not filled.drawn[m][place].any():
            continue
        if not isinstance(given, np.ndarray) and not len(given[row]):
            drawn[row] = filled.drawn[m][place][filled.exists[m][place]]
            whole[row] = np.zeros((len(drawn[row]), made.shape[-1]), given[row].dtype)
        here = filled.drawn[m][place][: len(drawn[row])]
        drawn[row][: len(here)] = here
        new, size = whole[row].copy(), len(here)
        new[:size][here] = _as(made[place][:size][here], new.dtype)
        whole[row] = new
    return whole, drawn, spread


def _as(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """As the file's numbers are; float16 has a largest one."""
    if dtype.kind != "f":
        return np.rint(x).astype(dtype)
    return np.clip(x, np.finfo(dtype).min, np.finfo(dtype).max).astype(dtype)


@contextlib.contextmanager
def _naming(contents: Contents, split: str) -> Iterator[None]:
    """What the model refuses, with the name of the file."""
    try:
        yield
    except UserError as error:
        where = f"{lazy.one_line(contents.path, 4096)}: split {lazy.one_line(split, 64)!r}"
        raise UserError(f"{where}: {error}") from None


def _rows_of(contents: Contents) -> int:
    return sum(len(part) for part in contents.splits.values())


def _check_new(output: Path) -> None:
    if os.path.lexists(output):
        raise UserError(f"{str(output)!r} exists; allowed: a new name")
