"""Rows that lie about in a pickle's containers, an array (T, C) or (C,) each, where a file has no
array of all: read in place, and written back into a copy.

A place is the keys that lead from the top to a row: (3, 'Ses01', 4) is tree[3]['Ses01'][4].
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from mmdjax.data.formats import folders, lazy, values
from mmdjax.data.formats.contents import Changes, Contents
from mmdjax.data.formats.lazy import quoted, refused

Place = tuple
_CONTAINERS = (dict, list, tuple, np.ndarray, lazy.Lazy)


@dataclasses.dataclass(frozen=True)
class Rows:
    """Where a split has its rows.

    Attributes:
      id, label, talk, classes: as in `Part`.
      places: key -> for each row its place, where there may be nothing.
      channels_first: keys whose arrays are (C, T).
    """

    id: Sequence[str]
    label: np.ndarray | None
    places: Mapping[str, Sequence[Place]]
    talk: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    channels_first: frozenset = frozenset()
    classes: tuple[str, ...] = ()


def open_rows(
    path: Path,
    layout: str,
    tree: Any,
    splits: Mapping[str, Rows],
    beside: Callable[[str, str, lazy.Rows], Mapping[Place, object]],
    dump: Callable[[Path, Any], None],
    notes: tuple[str, ...] = (),
) -> Contents:
    """Return the contents of a pickle whose rows have places in `tree`.

    Args:
      beside: (split, key, rows) -> place -> what to put there of an added array.
      dump: (output, tree) writes a file.

    Raises:
      UserError: naming the place: not numbers, other channels than the first, or no features.
    """
    parts = {}
    for split, rows in splits.items():
        where = f"{path}: split {quoted(split, 64)}" if split != "all" else str(path)

        def read(
            key: str, places: Sequence[Place | None], where: str = where, rows: Rows = rows
        ) -> lazy.Rows:
            return _rows(f"{where}: {quoted(key)}", tree, places, key in rows.channels_first)

        there = {
            key: [place if _is_there(find(tree, place)) else None for place in places]
            for key, places in rows.places.items()
        }
        part, missing = folders.joined(where, rows.id, rows.label, there, read)
        parts[split] = dataclasses.replace(part, talk=rows.talk, classes=rows.classes)
        notes += missing

    def write(output: Path, replaced: Changes, added: Changes) -> None:
        changes: dict[Place, object] = {}
        for (split, key), rows in replaced.items():
            changes |= _replaced(tree, splits[split], key, rows, parts[split].features[key].dtype)
        for (split, key), rows in added.items():
            changes |= beside(split, key, rows)
        dump(output, with_changes(tree, changes))

    return Contents(path, layout, parts, write, notes)


def find(tree: Any, place: Place) -> Any:
    """Return what is at a place, None where nothing is."""
    for key in place:
        if isinstance(tree, dict):
            tree = tree.get(key)
        elif isinstance(tree, _CONTAINERS) and isinstance(key, int) and key < count(tree):
            tree = tree[key]
        else:
            return None
    return tree


def count(value: object) -> int:
    """Return how many rows a list, tuple or array has; 0 of anything else."""
    if isinstance(value, (list, tuple)):
        return len(value)
    return value.shape[0] if isinstance(value, (np.ndarray, lazy.Lazy)) and value.shape else 0


def numbers(value: Any) -> np.ndarray | lazy.Lazy | None:
    """Return an array, or a list of numbers as one, if it is (T, C) or (C,) of float or int."""
    if isinstance(value, (list, tuple)) and value:
        try:
            value = values.array_of(value)
        except (ValueError, OverflowError):  # of unequal lengths
            return None
    fits = isinstance(value, (np.ndarray, lazy.Lazy)) and value.dtype.kind in lazy.NUMBERS
    return value if fits and value.ndim in (1, 2) and value.shape[-1] else None


def _is_there(value: object) -> bool:
    """Return whether something is at a row's place, be it no row: `_rows` refuses that by name."""
    return value is not None and not (isinstance(value, _CONTAINERS) and not count(value))


def _rows(where: str, tree: Any, places: Sequence[Place | None], channels_first: bool) -> lazy.Rows:
    """Return (N, T, C), or N sequences (T_i, C); of None as the place no frames."""
    lengths, channels, dtypes = np.zeros(len(places), np.int64), 0, set()

    def row_of(row: int) -> np.ndarray:
        if places[row] is None:
            return np.zeros((0, channels), dtype)
        x = np.asarray(numbers(find(tree, places[row])))
        x = x.T if channels_first else x
        return np.atleast_2d(x).astype(dtype)

    for row, place in enumerate(places):
        if place is None:
            continue
        value = find(tree, place)
        x = numbers(value)
        at = f"{where}: row {row}"
        if x is None:
            shape = getattr(value, "shape", None)
            problem = f"shape {shape} of {value.dtype}" if shape else f"a {type(value).__name__}"
            raise refused(at, problem, "(T, C) or (C,) numbers")
        shape = (x.shape if x.ndim == 2 else (1, *x.shape))[:: -1 if channels_first else 1]
        if channels and shape[1] != channels:
            raise refused(at, f"{shape[1]} channels", f"{channels}, as in the first row")
        lengths[row], channels = shape
        dtypes.add(x.dtype)
    dtype = np.result_type(*dtypes)
    return lazy.row_by_row(lengths, channels, dtype, row_of)


def _replaced(
    tree: Any, split: Rows, key: str, rows: lazy.Rows, dtype: DTypeLike
) -> dict[Place, object]:
    """Return place -> a row as the file holds it: its dtype, (C,) or (T, C), an array or a list."""
    places, changes = split.places[key], {}
    channels_first = key in split.channels_first
    old = [find(tree, place) for place in places]
    vectors = all(x.ndim == 1 for value in old if (x := numbers(value)) is not None)
    for row, place in enumerate(places):
        value, new = numbers(old[row]), np.asarray(rows[row])
        given = len(new) > 0
        new = new.astype(dtype if value is None else value.dtype)
        if vectors and len(new) == 1:
            new = new[0]
        new = new.T if channels_first else new
        if value is not None and given and 0 not in value.shape:
            new = new.reshape(value.shape)
        if find(tree, place[:-1]) is None:  # a list for all rows of a conversation
            changes.setdefault(place[:-1], []).append(new if given else None)
        elif given or value is not None:
            changes[place] = new.tolist() if isinstance(old[row], list) else new
    return changes


def with_changes(tree: Any, changes: Mapping[Place, object]) -> Any:
    """Return a copy of `tree` with other values at some places; what does not differ is shared."""
    by_first: dict[object, dict[Place, object]] = {}
    for place, value in changes.items():
        by_first.setdefault(place[0], {})[place[1:]] = value
    if isinstance(tree, (tuple, lazy.Lazy)):
        made = list(tree) if isinstance(tree, tuple) else np.asarray(tree)
    else:
        made = {} if tree is None else tree.copy()
    for key, inside in by_first.items():
        old = made.get(key) if isinstance(made, dict) else made[key]
        made[key] = inside[()] if () in inside else with_changes(old, inside)
    return tuple(made) if isinstance(tree, tuple) else made
