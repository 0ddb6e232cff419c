"""`--mode=impute` and `--mode=predict`: files of any known layout, in blocks of rows."""

from __future__ import annotations

import contextlib
import csv
import itertools
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmdjax.data.formats import lazy
from mmdjax.data.formats.contents import Contents, open_contents, part_rows, write_copy
from mmdjax.errors import UserError
from mmdjax.serving.blocks import Block, Spool, blocks, folder_beside, keys_of, place_of
from mmdjax.serving.imputer import Imputer

Advance = Callable[[int, int], None]  # rows done, rows of all


class _Work(NamedTuple):
    """A file at work: what is in it, a folder for what is not finished, and what is done."""

    contents: Contents
    folder: Path
    counts: dict[str, int]
    advance: Advance

    def blocks(self, imputer: Imputer, split: str, keys) -> Iterator[Block]:
        """Yield the blocks of a split; count and report each when the next one is asked for."""
        total = sum(map(len, self.contents.splits.values()))
        for block in blocks(imputer, self.contents, split, keys):
            yield block
            self.counts["utterances"] += len(block.some)
            self.counts["completed"] += int((block.gaps & block.some).sum())
            self.counts["empty"] += int((~block.some).sum())
            self.advance(self.counts["utterances"], total)

    def ask(self, answer: Callable, split: str, block: Block, rows: np.ndarray, **settings):
        """Return `answer`, a method of `Imputer`, for rows of a block; None for no rows."""
        if not rows.size:
            return None
        talk = {name: a[rows] for name, a in block.talk.items()}
        try:
            return answer(block.given.at(rows), **settings, **talk)
        except UserError as error:
            raise UserError(f"{place_of(self.contents, split)}: {error}") from None


@contextlib.contextmanager
def _opened(source, output: Path, advance: Advance) -> Iterator[_Work]:
    _check_new(output)
    with open_contents(source) as contents, folder_beside(output) as folder:
        counts = {"utterances": 0, "completed": 0, "empty": 0}
        yield _Work(contents, Path(folder), counts, advance)


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
    with _opened(source, Path(output), advance) as work:
        number, replaced, added = itertools.count(), {}, {}
        for split, part in work.contents.splits.items():
            keys = keys_of(imputer, work.contents, split)
            spools = {m: Spool(work.folder / f"{next(number)}") for m in keys}
            masks, spreads = ({m: [] for m in keys} for _ in range(2))
            for block in work.blocks(imputer, split, keys):
                rows = block.to_complete()
                filled = work.ask(imputer.impute, split, block, rows, draws=draws, seed=seed)
                for m, raw in block.raw.items():
                    whole, drawn, spread = _merged(raw, filled, m, rows, draws)
                    spools[m].append(whole)
                    masks[m] += drawn
                    spreads[m].append(spread)
            for m, key in keys.items():
                like, name = part_rows(part, key), re.sub(r"\[(\d+):(\d+)\]$", r"_\1_\2", key)
                if any(drawn.any() for drawn in masks[m]):
                    replaced[split, key] = spools[m].rows(like)
                mask = masks[m]
                if not lazy.is_ragged(like):
                    mask = np.stack(mask) if mask else np.zeros((0, like.shape[1]), bool)
                added[split, f"{name}_drawn"] = mask
                if draws > 1:
                    none = np.zeros(0, np.float32)
                    added[split, f"{name}_spread"] = np.concatenate([none, *spreads[m]])
        write_copy(work.contents, output, replaced, added)
    return work.counts


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
    output, columns = Path(output), imputer.task.columns()
    settings = {"draws": draws, "seed": seed, "level": level}
    with _opened(source, output, advance) as work:
        temporary = work.folder / "predictions.csv"
        with temporary.open("w", newline="", encoding="utf-8", errors="replace") as file:
            table = csv.writer(file)
            table.writerow(("split", "id", *columns, "observed"))
            for split, part in work.contents.splits.items():
                keys = keys_of(imputer, work.contents, split)
                for block in work.blocks(imputer, split, keys):
                    rows = np.flatnonzero(block.some)
                    predicted = work.ask(imputer.predict, split, block, rows, **settings)
                    lines = imputer.task.lines(predicted._asdict()) if predicted else ()
                    cells = dict(zip(rows.tolist(), lines, strict=True))
                    for row in range(len(block.some)):
                        observed = "+".join(m for m, shows in block.shows.items() if shows[row])
                        values = cells.get(row, ("",) * len(columns))
                        table.writerow((split, part.id[block.start + row], *values, observed))
        _check_new(output)
        os.replace(temporary, output)
    return work.counts


def _merged(raw, filled, m: str, rows: np.ndarray, draws: int):
    """Return a block with what was drawn, as the file has it; the frames that were drawn; and the
    spread, (n,).

    Args:
      filled: `Imputed` of `rows`; None if there are none.
    """
    dense, masks = isinstance(raw, np.ndarray), [np.zeros(len(x), bool) for x in raw]
    whole, spread = raw.copy() if dense else list(raw), np.zeros(len(raw), np.float32)
    if filled is None:
        return whole, masks, spread
    spread[rows] = filled.spread[m]
    features = filled.features[m] if draws == 1 else filled.features[m].mean(0)
    for place in np.flatnonzero(filled.drawn[m].any(1)):
        row, drawn = rows[place], filled.drawn[m][place]
        if not dense and not len(raw[row]):  # the file lacks this sequence
            masks[row] = drawn[filled.exists[m][place]]
            whole[row] = np.zeros((len(masks[row]), features.shape[-1]), raw[row].dtype)
        drawn = drawn[: len(masks[row])]
        masks[row][: len(drawn)] = drawn
        completed = whole[row].copy()
        completed[: len(drawn)][drawn] = _as(features[place, : len(drawn)][drawn], completed.dtype)
        whole[row] = completed
    return whole, masks, spread


def _as(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return x as the file's numbers are; float16 has a largest one."""
    if dtype.kind != "f":
        return np.rint(x).astype(dtype)
    return np.clip(x, np.finfo(dtype).min, np.finfo(dtype).max).astype(dtype)


def _check_new(output: Path) -> None:
    if os.path.lexists(output):
        raise UserError(f"{str(output)!r} exists; allowed: a new name")
