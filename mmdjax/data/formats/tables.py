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
from collections.abc import Iterable, Mapping

import numpy as np

from mmdjax.data.formats import lazy, views
from mmdjax.data.formats.contents import Part
from mmdjax.data.formats.lazy import one_line
from mmdjax.data.formats.values import (
    label_of,
    lengths_of,
    names_of,
    observed_of,
    shape_of,
    what_of,
)
from mmdjax.errors import UserError

LABELS = ("regression_labels", "labels", "label", "y", "classification_labels")
# what stands beside an array and tells of it
MARKS = ("_lengths", "_observed", "_drawn", "_spread")
TALK = ("conversation", "video", "speaker")
_NAMES = ("train", "valid", "test")
_PREFIX = re.compile(r"(train|valid|val|dev|test|trn|tst)_(.+)", re.DOTALL)
KNOWN_SPLITS = (
    "train",
    "valid",
    "test",
    "val",
    "dev",
    "trn",
    "tst",
    "training",
    "validation",
    "all",
)

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
    rows: Mapping[str, np.ndarray]

    def place(self, split: str, key: str) -> tuple[str, ...]:
        """Where a key of a split stands, or would stand."""
        prefixed = (f"{split}_{key}",)
        return {"nested": (split, key), "prefix": prefixed}.get(self.kind, (key,))


def names_splits(names: Iterable[str]) -> bool:
    """Whether the names of dicts, groups or folders are those of splits."""
    return any(name in KNOWN_SPLITS for name in names)


def find_splits(where: str, table: Table) -> Splits:
    """Raises `UserError` for a column of splits that is not as described."""
    splits: dict[str, dict[str, tuple[str, ...]]] = {}
    for path in table:
        if len(path) == 2:
            splits.setdefault(path[0], {})[path[1]] = path
    if splits:
        return Splits("nested", _in_order(splits), {})
    flat = {path[0]: path for path in table if len(path) == 1}
    for name, path in flat.items():
        if found := _PREFIX.fullmatch(name):
            splits.setdefault(found[1], {})[found[2]] = path
    # 'train_size' or 'test_note' alone make no split
    if splits := {name: keys for name, keys in splits.items() if "X" in keys}:
        return Splits("prefix", _in_order(splits), {})
    if "split" not in flat:
        return Splits("all", {"all": flat}, {})
    rows = _rows_of_splits(f"{where}: 'split'", table[("split",)])
    return Splits("column", dict.fromkeys(rows, flat), rows)


def _in_order(splits: dict) -> dict:
    """Training first, then validation, then test: HDF5 sorts names by letter."""
    kinds = ("tr", "v", "d", "te", "ts")
    order = {name: [name.startswith(kind) for kind in kinds] for name in splits}
    return {name: splits[name] for name in sorted(splits, key=lambda n: order[n], reverse=True)}


def _rows_of_splits(where: str, value) -> dict[str, np.ndarray]:
    allowed = "one of 0, 1, 2 for train, valid, test, or a name of at most 64 characters, a row"
    if shape_of(value)[1:] not in ((), (1,)) or not shape_of(value):
        raise UserError(f"{where}: {what_of(value)}; allowed: {allowed}")
    named = names_of(where, value, shape_of(value)[0])
    if not named:
        raise UserError(f"{where}: no rows; allowed: {allowed}")
    numbers = {"0": "train", "1": "valid", "2": "test"}
    named = [numbers.get(name, name) for name in named]
    for row, name in enumerate(named):
        if not name or re.fullmatch(r"-?\d+(\.\d*)?|nan", name) or len(name) > 64:
            raise UserError(f"{where}: row {row} is {one_line(name, 40)!r}; allowed: {allowed}")
    order = sorted(set(named), key=lambda name: (*_NAMES, name).index(name))
    all_names = np.array(named)
    return {name: np.flatnonzero(all_names == name) for name in order}


def parts(where: str, table: Table) -> tuple[Splits, dict[str, Part]]:
    """Every split of a table.

    Raises:
      UserError: what `part` raises, or a column of splits that does not fit.
    """
    splits = find_splits(where, table)
    made = {}
    for split, keys in splits.columns.items():
        columns = {key: table[path] for key, path in keys.items()}
        made[split] = part(where, columns, split, splits.rows.get(split))
    return splits, made


def part(where: str, columns: Mapping[str, object], split: str, rows=None) -> Part:
    """A split of a table.

    Features are arrays (N, T, C) of numbers, (N, C), which become (N, 1, C), and lists of N
    arrays (T_i, C); not what is named like a label, 'id', or `<key>_lengths`.

    Args:
      rows: of the columns, or all.

    Raises:
      UserError: naming the key: another number of rows, no features, labels that are not numbers.
    """
    where = f"{where}: split {one_line(split, 64)!r}" if split != "all" else where
    features = {}
    for key, value in columns.items():
        beside = key in ("speaker", "position") and shape_of(value)[1:] in ((), (1,))
        found = None if beside or _is_about(key) else _as_features(value)
        if found is not None:
            features[key] = found
    cubes = [key for key in features if len(shape_of(columns[key])) != 2]
    said = [key for key in ("id", *LABELS) if key in columns and shape_of(columns[key])]
    first = next(iter(said + cubes + list(features)), "")
    count = shape_of(columns[first])[0] if first else 0
    for key in list(features):
        if len(features[key]) != count and key in cubes:
            at = f"{where}: key {one_line(key, 60)!r}"
            raise UserError(f"{at}: {len(features[key])} rows; allowed: {count}, as {first!r} has")
        if len(features[key]) != count:
            del features[key]  # a mean, a table of words: not a row an utterance
    if not features:
        fitting = f" {count} rows, as {one_line(first, 60)!r} has, of" if first else " of"
        raise UserError(
            f"{where}: no features among {listed(columns)}; allowed: arrays (N, T, C) or (N, C)"
            f"{fitting} float or int"
        )
    if rows is not None and len(columns["split"]) != count:
        what = f"{len(columns['split'])} rows; allowed: {count}, as {first!r} has"
        raise UserError(f"{where}: 'split' has {what}")

    def of_rows(value):
        return value if rows is None else value[rows]

    frames, observed = {}, {}
    for key, x in features.items():
        at = f"{where}: key {one_line(key, 60)!r}"
        lengths, seen = columns.get(f"{key}_lengths"), columns.get(f"{key}_observed")
        if lazy.is_ragged(x):
            frames[key] = of_rows(x.lengths)
        elif lengths is not None:
            frames[key] = of_rows(lengths_of(at, lengths, count, x.shape[1]))
        if seen is not None:
            observed[key] = of_rows(observed_of(at, seen, x))
    label_key = next((key for key in LABELS if key in columns), "")
    label = columns.get(label_key)
    if label is not None:
        label = of_rows(label_of(f"{where}: key {label_key!r}", label, count))
    given = columns.get("id")
    prefix = "" if split == "all" else f"{one_line(split, 64)}/"
    ids = [f"{prefix}{row}" for row in range(count)]
    if given is not None:
        ids = names_of(f"{where}: key 'id'", given, count)
    if rows is not None:
        features = {key: views.chosen(x, rows) for key, x in features.items()}
    talk = {name: of_rows(a) for name, a in _talk(where, columns, count).items()}
    return Part(features, label, of_rows(np.array(ids, str)), frames, observed, talk)


def _talk(where: str, columns: Mapping[str, object], count: int) -> dict[str, np.ndarray]:
    """`Part.talk`: a column of names of conversations makes some; nothing else of such a key.

    Raises:
      UserError: conversations with speakers or positions of another kind.
    """
    found = {}
    for key in ("conversation", "video"):
        if not found and _is_column(columns.get(key), count):
            with contextlib.suppress(UserError):
                found["conversation"] = np.array(names_of(where, columns[key], count))
    for name, reader in (("speaker", names_of), ("position", label_of)):
        if found and _is_column(columns.get(name), count):
            value = reader(f"{where}: key {name!r}", columns[name], count)
            found[name] = np.array(value)
    return found


def _is_column(value, count: int) -> bool:
    return shape_of(value) in ((count,), (count, 1))


def _is_about(key: str) -> bool:
    return key in ("id", "split", *LABELS) or "label" in key or key.endswith(MARKS)


def _as_features(value):
    """(N, T, C) or ragged; None for anything else."""
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


def listed(keys) -> str:
    """Keys, for a message."""
    return ", ".join(repr(one_line(key, 40)) for key in list(keys)[:20]) or "nothing"
