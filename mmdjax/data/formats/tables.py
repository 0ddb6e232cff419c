"""Tables of named arrays, as pickles, `.npz` and HDF5 hold them: splits, features, labels.

A table maps a path of names, ('train', 'text') or ('text',), to an array, `Lazy`, or anything else.
Its splits are one of
  nested  the first of two names: a dict in a dict, 'train/text' in an .npz, groups in HDF5
  prefix  'train_X', 'val_X', 'test_X': PyPOTS and BenchPOTS
  column  an array 'split' of rows: 0, 1, 2 for train, valid, test, or their names
  all     none of these
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mmdjax.data.formats import budget, lazy, values, views
from mmdjax.data.formats.contents import Changes, Contents, Part
from mmdjax.data.formats.lazy import listed, one_line, quoted, refused
from mmdjax.data.formats.values import described, shape_of
from mmdjax.errors import UserError

LABELS = ("regression_labels", "labels", "label", "y", "classification_labels")
MARKS = ("_lengths", "_observed", "_drawn", "_spread")  # what stands beside an array <key>
TALK = ("conversation", "video", "speaker")
_SPLITS = {"0": "train", "1": "valid", "2": "test"}
_PREFIX = re.compile(r"(train|valid|val|dev|test|trn|tst)_(.+)", re.DOTALL)
KNOWN_SPLITS = ("train", "valid", "test", "val", "dev", "trn", "tst")
KNOWN_SPLITS += ("training", "validation", "all")

Table = Mapping[tuple[str, ...], object]


@dataclasses.dataclass(frozen=True)
class Splits:
    """Which column of a table holds which key of which split.

    Attributes:
      kind: 'nested', 'prefix', 'column' or 'all'.
      columns: split -> key -> path in the table.
      rows: split -> its rows, ascending, where kind is 'column'.
    """

    kind: str
    columns: Mapping[str, Mapping[str, tuple[str, ...]]]
    rows: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def place(self, split: str, key: str) -> tuple[str, ...]:
        """Return where a key of a split stands, or would stand."""
        prefixed = (f"{split}_{key}",)
        return {"nested": (split, key), "prefix": prefixed}.get(self.kind, (key,))


def open_table(
    path: Path,
    layout: str,
    table: Table,
    write: Callable[[Path, dict[tuple[str, ...], object]], None],
    close: Callable[[], None] = lambda: None,
    sequences: bool = False,
) -> Contents:
    """Return the contents of a file that holds a table.

    Args:
      layout: its name, unless the names of arrays are those of PyPOTS.
      write: (output, columns that differ) writes a copy.
      sequences: whether the file can hold sequences of unequal length.

    Raises:
      UserError: naming the key: another number of rows, no features, labels that are not numbers,
        or a column of splits that does not fit.
    """
    splits = _find_splits(path, table)
    columns = {
        split: {key: table[name] for key, name in keys.items()}
        for split, keys in splits.columns.items()
    }
    classes = values.class_names(
        part[key] for part in columns.values() if (key := _label_key(part))
    )
    parts = {
        split: _part(path, part, split, splits.rows.get(split), classes)
        for split, part in columns.items()
    }

    def write_changed(output: Path, replaced: Changes, added: Changes) -> None:
        changed = _rewritten(path, table, splits, replaced, added)
        for names, rows in changed.items():
            if not sequences and (isinstance(rows, list) or lazy.is_ragged(rows)):
                problem = f"key {quoted(names[-1])} is sequences of unequal length"
                raise refused(path, problem, "(N, ...) in this file")
        write(output, changed)

    pypots = splits.kind == "prefix" or all("X" in keys for keys in splits.columns.values())
    return Contents(path, "pypots" if pypots else layout, parts, write_changed, close=close)


def names_splits(names: Iterable[str]) -> bool:
    """Return whether the names of dicts, groups or folders are those of splits."""
    return any(name in KNOWN_SPLITS for name in names)


def _find_splits(path: Path, table: Table) -> Splits:
    splits: dict[str, dict[str, tuple[str, ...]]] = {}
    for names in table:
        if len(names) == 2:
            splits.setdefault(names[0], {})[names[1]] = names
    if splits:
        budget.check_splits(path, splits)
        return Splits("nested", _in_order(splits))
    flat = {names[0]: names for names in table}
    for name, names in flat.items():
        if match := _PREFIX.fullmatch(name):
            splits.setdefault(match[1], {})[match[2]] = names
    # 'train_size' or 'test_note' alone make no split
    if splits := {name: keys for name, keys in splits.items() if "X" in keys}:
        return Splits("prefix", _in_order(splits))
    if "split" not in flat:
        return Splits("all", {"all": flat})
    rows = _rows_of_splits(f"{path}: 'split'", table[("split",)])
    return Splits("column", dict.fromkeys(rows, flat), rows)


def _in_order(splits: dict) -> dict:
    """Return training first, then validation, then test: HDF5 sorts names by letter."""

    def order(name: str) -> list[bool]:
        return [not name.startswith(kind) for kind in ("tr", "v", "d", "te", "ts")]

    return {name: splits[name] for name in sorted(splits, key=order)}


def _rows_of_splits(where: str, value: Any) -> dict[str, np.ndarray]:
    allowed = "one of 0, 1, 2 for train, valid, test, or a name of at most 64 characters, a row"
    if shape_of(value)[1:] not in ((), (1,)) or not shape_of(value):
        raise refused(where, described(value), allowed)
    names = values.names_of(where, value, shape_of(value)[0])
    if not names:
        raise refused(where, "no rows", allowed)
    names = [_SPLITS.get(name, name) for name in names]
    for row, name in enumerate(names):
        if not name or re.fullmatch(r"-?\d+(\.\d*)?|nan", name) or len(name) > 64:
            raise refused(where, f"row {row} is {quoted(name, 40)}", allowed)
    budget.check_splits(where, set(names))
    order = sorted(set(names), key=lambda name: (*_SPLITS.values(), name).index(name))
    column = budget.words(where, names)
    return {name: np.flatnonzero(column == name) for name in order}


def _label_key(columns: Mapping[str, object]) -> str:
    return next((key for key in LABELS if columns.get(key) is not None), "")


def _part(
    path: Path,
    columns: Mapping[str, object],
    split: str,
    rows: np.ndarray | None,
    classes: tuple[str, ...],
) -> Part:
    """Return a split of a table, of all rows or of some.

    Features are arrays (N, T, C) of numbers, (N, C), which become (N, 1, C), and lists of N
    arrays (T_i, C); not what is named like a label, 'id', or `<key>_lengths`.
    """
    where = f"{path}: split {quoted(split, 64)}" if split != "all" else str(path)
    features, count = _features(where, columns)
    if rows is not None and len(columns["split"]) != count:
        problem = f"'split' has {len(columns['split'])} rows"
        raise refused(where, problem, f"{count}, as other arrays have")

    budget.spend(where, f"{count} rows", budget.ROW * count)

    def of_rows(value: np.ndarray) -> np.ndarray:
        return value if rows is None else value[rows]

    frames, observed = {}, {}
    for key, x in features.items():
        at = f"{where}: key {quoted(key)}"
        lengths, mask = columns.get(f"{key}_lengths"), columns.get(f"{key}_observed")
        if lazy.is_ragged(x):
            frames[key] = of_rows(x.lengths)
        elif lengths is not None:
            frames[key] = of_rows(values.lengths_of(at, lengths, count, x.shape[1]))
        if mask is not None:
            observed[key] = of_rows(values.observed_of(at, mask, x))
    label = None
    if label_key := _label_key(columns):
        at = f"{where}: key {label_key!r}"
        label = of_rows(values.label_of(at, columns[label_key], count, classes))
    prefix = "" if split == "all" else f"{one_line(split, 64)}/"
    ids = [f"{prefix}{row}" for row in range(count)]
    if columns.get("id") is not None:
        ids = values.names_of(f"{where}: key 'id'", columns["id"], count)
    if rows is not None:
        features = {key: views.chosen(x, rows) for key, x in features.items()}
    talk = {name: of_rows(a) for name, a in _talk(where, columns, count).items()}
    return Part(features, label, of_rows(budget.words(where, ids)), frames, observed, talk, classes)


def _features(where: str, columns: Mapping[str, object]) -> tuple[dict, int]:
    """Return key -> features of as many rows as labels or the first features have, and how many."""
    features = {}
    for key, value in columns.items():
        beside = key in ("speaker", "position") and shape_of(value)[1:] in ((), (1,))
        marked = key in ("id", "split", *LABELS) or "label" in key or key.endswith(MARKS)
        if not (beside or marked) and (rows := _as_features(value)) is not None:
            features[key] = rows
    cubes = [key for key in features if len(shape_of(columns[key])) != 2]
    named = [key for key in ("id", *LABELS) if key in columns and shape_of(columns[key])]
    first = next(iter(named + cubes + list(features)), "")
    count = shape_of(columns[first])[0] if first else 0
    for key in list(features):
        if len(features[key]) != count and key in cubes:
            at = f"{where}: key {quoted(key)}"
            raise refused(at, f"{len(features[key])} rows", f"{count}, as {first!r} has")
        if len(features[key]) != count:
            del features[key]  # a mean, a table of words: not a row an utterance
    if not features:
        fitting = f" {count} rows, as {quoted(first)} has, of" if first else " of"
        allowed = f"arrays (N, T, C) or (N, C){fitting} float or int"
        raise refused(where, f"no features among {listed(columns)}", allowed)
    return features, count


def _as_features(value: Any) -> lazy.Rows | None:
    """Return (N, T, C) or ragged rows; None for anything else."""
    shape, dtype = shape_of(value), getattr(value, "dtype", None)
    if dtype is not None and dtype.kind in lazy.NUMBERS and len(shape) in (2, 3):
        if 0 in shape[1:]:
            return None
        return value if len(shape) == 3 else views.reshaped(value, (1, shape[1]))
    if isinstance(value, list) or (dtype is not None and dtype.kind == "O" and len(shape) == 1):
        items = list(value)
        if not items or any(len(shape_of(x)) != 2 or not hasattr(x, "dtype") for x in items):
            return None
        kinds = {(x.shape[1], x.dtype) for x in items}
        if len(kinds) == 1 and items[0].dtype.kind in lazy.NUMBERS and items[0].shape[1]:
            return lazy.ragged(items)
    return None


def _talk(where: str, columns: Mapping[str, object], count: int) -> dict[str, np.ndarray]:
    """Return `Part.talk`, {} without a column of names of conversations.

    Raises:
      UserError: conversations with speakers or positions of another kind.
    """
    columns = {k: v for k, v in columns.items() if shape_of(v) in ((count,), (count, 1))}
    talk: dict[str, np.ndarray] = {}
    for key in ("conversation", "video"):
        if not talk and key in columns:
            with contextlib.suppress(UserError):
                talk["conversation"] = budget.words(
                    where, values.names_of(where, columns[key], count)
                )
    for name, reader in (("speaker", values.names_of), ("position", values.label_of)):
        if talk and name in columns:
            column = reader(f"{where}: key {name!r}", columns[name], count)
            talk[name] = budget.words(where, column) if isinstance(column, list) else column
    return talk


def _rewritten(
    path: Path, table: Table, splits: Splits, replaced: Changes, added: Changes
) -> dict[tuple[str, ...], object]:
    """Return the columns that differ from the table's: names -> rows of the file's dtype and shape.

    Rows of a split that is chosen by a column take their places among the others; where only
    some splits are given an added array, it is 0 in the rest.

    Raises:
      UserError: an added array has the name of another column.
    """
    changed: dict[tuple[str, ...], object] = {}
    for (split, key), rows in replaced.items():
        names = splits.columns[split][key]
        value = table[names]
        if lazy.is_ragged(rows):
            changed[names] = views.sequences_like(value, rows)
            continue
        rows = rows if len(value.shape) == 3 else views.reshaped(rows, value.shape[1:])
        if splits.kind == "column":
            rows = views.scattered(changed.get(names, value), splits.rows[split], rows)
        changed[names] = views.as_type(rows, value.dtype)
    for (split, key), rows in added.items():
        names = splits.place(split, key)
        if names in table:
            raise refused(path, f"added key {quoted(key)} is in the file", "a new name")
        if splits.kind == "column":
            rows = np.asarray(rows) if isinstance(rows, list) else rows
            total = sum(len(index) for index in splits.rows.values())
            zeros = np.broadcast_to(np.zeros((), rows.dtype), (total, *rows.shape[1:]))
            rows = views.scattered(changed.get(names, zeros), splits.rows[split], rows)
        changed[names] = rows
    return changed
