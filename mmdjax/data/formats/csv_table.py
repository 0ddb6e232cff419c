"""A `.csv` table: a row an utterance, a header, features in columns `<modality>_<n>`.

Columns are `id`, `split`, `label` or several `label_<name>`, `conversation` (or `video`),
`speaker`, `position`, and of each modality `text_0`, `text_1` and so on, or `text.0`, or `text/0`.
An empty cell is missing. Fields are separated by ',', ';' or tabs.
"""

from __future__ import annotations

import collections
import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mmdjax.data.formats import lazy, tables, values
from mmdjax.data.formats.contents import Contents
from mmdjax.data.formats.lazy import listed, quoted, refused

ALLOWED = (
    "a table in UTF-8 whose first line names columns: id, label, split, and features such as "
    "text_0, text_1, audio_0"
)
_FEATURE = re.compile(r"(.+)[_./](\d{1,9})", re.DOTALL)
_NAMES = ("id", "split", "label", "conversation", "video", "speaker", "position")


def open_path(path: Path) -> Contents:
    """Open a table; raise `UserError` unless it is as described."""
    header, lines, separator = _read(path)
    features = _features(path, header)
    if not features:
        allowed = "features in columns such as text_0, text_1, audio_0"
        raise refused(path, f"columns {listed(header)}", allowed)
    places_of = {name: place for place, name in enumerate(header)}
    at = {name: places_of[name] for name in _NAMES if name in places_of}
    columns = {name: [line[column] for line in lines] for name, column in at.items()}
    several = [name for name in header if name.startswith("label_")]
    table: dict[tuple[str, ...], object] = {(name,): column for name, column in columns.items()}
    for name in ("position", "label"):
        words = columns.get(name)
        if words is not None and not values.class_names([words] if name == "label" else []):
            table[(name,)] = _numbers(path, lines, [at[name]], header)[:, 0]
    if several and "label" not in header:
        places = [places_of[name] for name in several]
        table[("label",)] = _numbers(path, lines, places, header)
    for key, places in features.items():
        table[(key,)] = _numbers(path, lines, places, header)

    def write(output: Path, changed: Mapping[tuple[str, ...], object]) -> None:
        _write(output, header, lines, separator, features, changed)

    return tables.open_table(path, "csv", table, write)


def _read(path: Path) -> tuple[list[str], list[list[str]], str]:
    """Return the header, the lines after it, and what separates fields."""
    with lazy.reading(path, ALLOWED), path.open(newline="", encoding="utf-8-sig") as file:
        first = file.readline()
        separator = max(",;\t", key=first.count)
        file.seek(0)
        try:
            header, *lines = list(csv.reader(file, delimiter=separator)) or [[]]
        except csv.Error as error:
            raise ValueError(str(error)) from None
    lines = [line for line in lines if line]
    for name, times in collections.Counter(header).items():
        if times > 1:
            raise refused(path, f"column {quoted(name)} is there twice", "each name once")
    for number, line in enumerate(lines, 1):
        if len(line) != len(header):
            problem = f"row {number} has {len(line)} fields"
            raise refused(path, problem, f"{len(header)}, as its first line has")
    if not lines:
        raise refused(path, "no rows", ALLOWED)
    return header, lines, separator


def _features(path: Path, header: Sequence[str]) -> dict[str, list[int]]:
    """Return modality -> its columns, in the order of their numbers."""
    numbered: dict[str, dict[int, int]] = {}
    for column, name in enumerate(header):
        match = _FEATURE.fullmatch(name)
        if not match or match[1] in _NAMES or match[1].endswith(tables.MARKS):
            continue
        places, number = numbered.setdefault(match[1], {}), int(match[2])
        if number in places:
            both = listed((header[places[number]], name))
            raise refused(path, f"columns {both} have one number", "each number once")
        places[number] = column
    return {key: [places[n] for n in sorted(places)] for key, places in numbered.items()}


def _numbers(path: Path, lines, columns: Sequence[int], header: Sequence[str]) -> np.ndarray:
    """Return the cells of some columns (N, C), NaN where they are empty."""
    array = np.full((len(lines), len(columns)), np.nan)
    for row, line in enumerate(lines):
        for place, column in enumerate(columns):
            cell = line[column].strip()
            if cell in values.MISSING:
                continue
            try:
                array[row, place] = float(cell)
            except ValueError:
                where = f"{path}: row {row + 1}, column {quoted(header[column])}"
                raise refused(where, quoted(cell, 40), "a number, or nothing") from None
    return array


def _write(output: Path, header, lines, separator: str, features, changed) -> None:
    """Write the table with the cells of changed columns, new ones at the right."""
    header, lines = list(header), [list(line) for line in lines]
    for (key,), rows in changed.items():
        rows = values.by_rows(np.asarray(rows))
        places = features.get(key)
        if places is None:
            names = [key] if rows.shape[1] == 1 else [f"{key}_{n}" for n in range(rows.shape[1])]
            places = list(range(len(header), len(header) + len(names)))
            header += names
            lines = [[*line, *[""] * len(names)] for line in lines]
        words = _words(rows)
        for line, cells in zip(lines, words, strict=True):
            for place, cell in zip(places, cells, strict=True):
                line[place] = cell
    with output.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=separator, lineterminator="\n")
        writer.writerows([header, *lines])


def _words(rows: np.ndarray) -> list[list[str]]:
    if rows.dtype.kind == "b":
        return [[str(int(x)) for x in row] for row in rows]
    return [["" if x != x else repr(x) for x in row] for row in rows.tolist()]
