"""Pickles with a row a sample: MISA's and MAG-BERT's lists, and dicts from an id to its arrays.

[((words, visual, acoustic), label, id), ...], or {train, dev, test} of such lists
{id: {modality: array}} and {id: array}, or {train, valid, test} of such dicts
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmdjax.data.formats import tables, values
from mmdjax.data.formats.contents import Contents
from mmdjax.data.formats.lazy import Rows as AnyRows
from mmdjax.data.formats.lazy import refused
from mmdjax.data.formats.places import Place, Rows, find, numbers, open_rows

KEYS = ("words", "visual", "acoustic")  # of a sample, by position
ALONE = "features"  # the key of a dict from an id to one array
# Names of what a dict of arrays has, each of all rows.
_NO_IDS = {"id", "split", "x", *tables.LABELS, "text", "audio", "video", "visual", "vision"}
_NO_IDS |= {"language", "acoustic", "l", "a", "v", "t"}
_MOST = 6  # modalities: a dict of more arrays of as many channels has a row each


def of_lists(tree: object) -> dict[str, tuple]:
    """Return split -> the place of its list of samples, {} unless there are such lists."""
    if isinstance(tree, list):
        lists = {"all": ()}
    elif isinstance(tree, dict) and tables.names_splits(tree):
        lists = {key: (key,) for key in tree if tables.names_splits([key])}
    else:
        return {}
    rows = [find(tree, place) for place in lists.values()]
    fits = all(isinstance(x, list) and all(map(_is_sample, x)) for x in rows)
    return lists if fits and any(rows) else {}


def _is_sample(sample: object) -> bool:
    return (
        isinstance(sample, (tuple, list))
        and len(sample) >= 2
        and isinstance(sample[0], (tuple, list))
        and len(sample[0]) >= len(KEYS)
    )


def open_lists(path: Path, layout: str, tree: Any, dump: Callable[[Path, Any], None]) -> Contents:
    """Open lists that `of_lists` finds; words as text or as numbers of a vocabulary are left out.

    Raises:
      UserError: naming split and row: labels or features that are no numbers.
    """
    lists, splits, left = of_lists(tree), {}, set()
    samples = [sample[0] for place in lists.values() for sample in find(tree, place)]
    keys = []
    for number, key in enumerate(KEYS):
        if all((x := numbers(inside[number])) is not None and x.ndim == 2 for inside in samples):
            keys.append((number, key))
        else:
            left.add(key)
    notes = tuple(f"{key} hold no vectors: left out" for key in KEYS if key in left)
    for split, place in lists.items():
        rows = find(tree, place)
        if not rows:
            continue
        where = f"{path}: split {split!r}"
        label = values.label_of(f"{where}: labels", [sample[1] for sample in rows], len(rows))
        ids = [f"{split}/{row}" for row in range(len(rows))]
        if all(len(sample) > 2 and values.text(sample[2]) is not None for sample in rows):
            ids = values.names_of(f"{where}: ids", [sample[2] for sample in rows], len(rows))
        places = {key: [(*place, row, 0, n) for row in range(len(rows))] for n, key in keys}
        splits[split] = Rows(ids, label, places)

    def beside(split: str, key: str, rows: AnyRows) -> dict[Place, object]:
        if split == "all":
            raise refused(path, "a list has no place beside its samples", "a dict of lists")
        return {(key, split): [np.asarray(row) for row in rows]}

    return open_rows(path, layout, tree, splits, beside, dump, notes)


def of_ids(tree: object) -> dict[str, tuple]:
    """Return split -> the place of its dict of ids, {} unless the file has a row an id."""
    if not isinstance(tree, dict) or not tree:
        return {}
    if tables.names_splits(tree):
        dicts = {key: part for key, part in tree.items() if tables.names_splits([key])}
        nested = all(isinstance(part, dict) and part and _by_name(part) for part in dicts.values())
        return {key: (key,) for key in dicts} if nested else {}
    return {"all": ()} if _by_name(tree) or _alone(tree) else {}


def _ids(tree: Mapping) -> list:
    return [id for id in tree if not str(id).endswith(tables.MARKS)]


def _by_name(tree: Mapping) -> bool:
    """Return whether each id has a dict, and each dict an array."""
    dicts = [tree[id] for id in _ids(tree)]
    return bool(dicts) and all(
        isinstance(part, dict) and any(numbers(x) is not None for x in part.values())
        for part in dicts
    )


def _alone(tree: Mapping) -> bool:
    """Return whether each id has an array of as many channels, (C,) or (T, C), or (C, T)."""
    arrays = [tree[id] for id in _ids(tree)]
    if _NO_IDS & {str(id).lower() for id in tree} or not arrays or not are_rows(tree):
        return False
    shapes = {x.shape for x in arrays}
    if len({len(shape) for shape in shapes}) != 1:
        return False
    alike = any(len({shape[axis] for shape in shapes}) == 1 for axis in (0, -1))
    return alike and (arrays[0].ndim == 1 or len(shapes) > 1 or len(arrays) > _MOST)


def are_rows(tree: Mapping) -> bool:
    """Return whether each id has an array, (C,) or (T, C) or (C, T)."""
    arrays = [tree[id] for id in _ids(tree)]
    return all(numbers(x) is not None and not isinstance(x, (list, tuple)) for x in arrays)


def channels_first(tree: Mapping) -> bool:
    """Return whether the arrays of ids are (C, T), as MUStARD's are: what differs is frames."""
    shapes = {tree[id].shape for id in _ids(tree)}
    planes = all(len(shape) == 2 for shape in shapes)
    return planes and len({c for _, c in shapes}) > 1 == len({c for c, _ in shapes})


def open_ids(path: Path, layout: str, tree: Any, dump: Callable[[Path, Any], None]) -> Contents:
    """Open dicts that `of_ids` finds. What an id has that is no array is left out, but its label.

    Raises:
      UserError: naming split and key: labels or features that are no numbers.
    """
    dicts, splits, notes = of_ids(tree), {}, ()
    columns = {split: _labels(find(tree, place)) for split, place in dicts.items()}
    classes = values.class_names(column for column in columns.values() if column)
    for split, place in dicts.items():
        part = find(tree, place)
        ids = _ids(part)
        names = values.names_of(f"{path}: ids", ids, len(ids))
        where = f"{path}: split {split!r}"
        if _by_name(part):
            keys = [
                key
                for key in dict.fromkeys(key for id in ids for key in part[id])
                if isinstance(key, str) and _is_modality(key, [part[id].get(key) for id in ids])
            ]
            places = {key: [(*place, id, key) for id in ids] for key in keys}
            label = None
            if column := columns.get(split):
                label = values.label_of(f"{where}: labels", column, len(ids), classes)
            splits[split] = Rows(names, label, places, classes=classes)
            continue
        turned = channels_first(part)
        notes += (_one_modality(len(ids), turned),)
        places = {ALONE: [(*place, id) for id in ids]}
        splits[split] = Rows(names, None, places, {}, frozenset({ALONE} if turned else ()))

    def beside(split: str, key: str, rows: AnyRows) -> dict[Place, object]:
        ids, arrays = next(iter(splits[split].places.values())), [np.asarray(row) for row in rows]
        first = dicts[split]
        inside = [(*p[:-1], key) if p[len(first) + 1 :] else (*first, key, p[-1]) for p in ids]
        return dict(zip(inside, arrays, strict=True))

    return open_rows(path, layout, tree, splits, beside, dump, notes)


def _is_modality(key: str, arrays: Sequence) -> bool:
    marked = key in ("id", "split", *tables.LABELS) or key.endswith(tables.MARKS)
    there = [x for x in arrays if x is not None]
    return not marked and any(numbers(x) is not None for x in there)


def _labels(tree: Mapping) -> list:
    """Return a label for each id that has a dict, missing where it has none; [] without labels."""
    rows = [tree[id] for id in _ids(tree) if isinstance(tree[id], dict)]
    key = next((key for key in tables.LABELS if any(key in row for row in rows)), None)
    if key is None:
        return []
    known = next(row[key] for row in rows if key in row)
    missing = "" if isinstance(known, str) else np.full(values.array_of(known).shape, np.nan)
    return [row.get(key, missing) for row in rows]


def _one_modality(count: int, turned: bool) -> str:
    shape = ", arrays (channels, frames)" if turned else ""
    return (
        f"one modality of {count} ids{shape}, without labels; for several write "
        "{id: {modality: array, 'label': number}}, or FOLDER/<modality>/<id>.npy with a labels.csv"
    )
