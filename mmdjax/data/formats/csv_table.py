"""A `.csv` table: a row an utterance, a header, features in columns `<modality>_<n>`.

Columns are `id`, `split`, `label` or several `label_<name>`, `conversation` (or `video`),
`speaker`, `position`, and of each modality `text_0`, `text_1` and so on, or `text.0`, or `text/0`.
An empty cell is missing. Fields are separated by ',', ';' or tabs.
"""

from __future__ import annotations

import array
import collections
import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from mmdjax.data.formats import budget, lazy, tables, values
from mmdjax.data.formats.contents import Contents
from mmdjax.data.formats.lazy import listed, quoted, refused

ALLOWED = (
    "a table in UTF-8 whose first line names columns: id, label, split, and features such as "
    "text_0, text_1, audio_0"
)
_FEATURE = re.compile(r"(.+)[_./](\d{1,9})", re.DOTALL)
_WORD = 64  # bytes of a short one
_NAMES = ("id", "split", "label", "conversation", "video", "speaker", "position")


def open_path(path: Path) -> Contents:
    """Open a table; raise `UserError` unless it is as described."""
    lines = _lines(path)
    header = next(lines)
    features = _features(path, header)
    if not features:
        allowed = "features in columns such as text_0, text_1, audio_0"
        raise refused(path, f"columns {listed(header)}", allowed)
    places_of = {name: place for place, name in enumerate(header)}
    words = {name: [] for name in _NAMES if name in places_of}
    places = dict(features)
    several = [places_of[name] for name in header if name.startswith("label_")]
    if several and "label" not in places_of:
        places["label"] = several
    numbers = {key: array.array("d") for key in places}
    row_bytes = 8 * sum(map(len, places.values())) + _WORD * len(words)
    count = 0
    for count, line in enumerate(lines, 1):
        if not count % 1000:
            budget.check(path, f"{count} rows", count * row_bytes)
        for name, column in words.items():
            column.append(line[places_of[name]])
        for key, columns in places.items():
            numbers[key].extend([_number(path, header, count, line, at) for at in columns])
    if not count:
        raise refused(path, "no rows", ALLOWED)
    table: dict[tuple[str, ...], object] = {(name,): column for name, column in words.items()}
    for name in ("position", "label"):
        if name in words and not (name == "label" and values.class_names([words[name]])):
            cells = enumerate(words[name], 1)
            column = [_number(path, [name], row, [cell], 0) for row, cell in cells]
            table[(name,)] = np.array(column)
    for key, flat in numbers.items():
        table[(key,)] = np.frombuffer(flat).reshape(count, -1)

    before = path.stat()

    def write(output: Path, changed: Mapping[tuple[str, ...], object]) -> None:
        now = path.stat()
        if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise ValueError(f"{path} has changed since it was opened")
        _write(path, output, features, changed)

    return tables.open_table(path, "csv", table, write)


def _separator(path: Path) -> str:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return max(",;\t", key=file.readline().count)


def _lines(path: Path) -> Iterator[list[str]]:
    """Yield the header, and the rows as they are read."""
    with lazy.reading(path, ALLOWED), path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, delimiter=_separator(path))
        try:
            header = next(reader, [])
            for name, times in collections.Counter(header).items():
                if times > 1:
                    raise refused(path, f"column {quoted(name)} is there twice", "each name once")
            yield header
            for number, line in enumerate(filter(None, reader), 1):
                if len(line) != len(header):
                    problem = f"row {number} has {len(line)} fields"
                    raise refused(path, problem, f"{len(header)}, as its first line has")
                yield line
        except csv.Error as error:
            raise ValueError(str(error)) from None


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


def _number(path: Path, header: Sequence[str], row: int, line: Sequence[str], column: int) -> float:
    """Return a cell, NaN where it is empty."""
    cell = line[column].strip()
    if cell in values.MISSING:
        return np.nan
    try:
        return float(cell)
    except ValueError:
        where = f"{path}: row {row}, column {quoted(header[column])}"
        raise refused(where, quoted(cell, 40), "a number, or nothing") from None


def _write(
    path: Path, output: Path, features: Mapping[str, Sequence[int]], changed: tables.Table
) -> None:
    """Write the table with the cells of changed columns, new ones at the right."""
    lines = _lines(path)
    header, cells = next(lines), []
    for (key,), rows in changed.items():
        rows = values.by_rows(np.asarray(rows))
        places = features.get(key)
        if places is None:
            names = [key] if rows.shape[1] == 1 else [f"{key}_{n}" for n in range(rows.shape[1])]
            places = range(len(header), len(header) + len(names))
            header = header + names
        cells.append((places, rows))
    with output.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=_separator(path), lineterminator="\n")
        writer.writerow(header)
        for row, line in enumerate(lines):
            line += [""] * (len(header) - len(line))
            for places, rows in cells:
                for place, cell in zip(places, _words(rows[row]), strict=True):
                    line[place] = cell
            writer.writerow(line)


def _words(row: np.ndarray) -> list[str]:
    if row.dtype.kind == "b":
        return [str(int(x)) for x in row]
    return ["" if x != x else repr(x) for x in row.tolist()]
