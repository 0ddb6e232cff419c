"""Reads the field's `{train, valid, test}` pickles: `aligned_50.pkl`, `unaligned_50.pkl` (MMSA)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from mmdjax.data.formats import budget, pickle_process, values
from mmdjax.data.formats.lazy import blocks, refused
from mmdjax.data.sources.from_file import fill
from mmdjax.errors import UserError
from mmdjax.types import Batch

SPLITS = ("train", "valid", "test")
_BLOCK = 2**24  # bytes worked on at once: bounds every temporary, whatever the file's size
_log = logging.getLogger(__name__)


def read(path: str, modalities: Mapping[str, str]) -> dict[str, Batch]:
    """Read the three splits of an MMSA pickle.

    A frame is valid up to the split's `<key>_lengths` (0 counts as 1) or, without them, up to
    the last frame that is not zero. Modalities without lengths of their own share the longest
    of theirs if they have the same T. Entries of -inf, a known defect of these files, become
    the mean of their column over the training split's valid frames, and are logged.

    Args:
      path: a pickle of `{train, valid, test}`; each split holds arrays (N, T_m, C_m) of
        float16, 32 or 64, `regression_labels` (N,) or (N, 1), perhaps `id` (N,) and
        `<key>_lengths` (N,) in frames.
      modalities: the file's key -> our name, such as `{"text": "language"}`; order is kept.

    Returns:
      split -> `Batch`; features are zero where not valid, and own their memory.

    Raises:
      UserError: the file or the mapping is not as described.
    """
    _check_mapping(modalities)
    with budget.of(path):
        return _read(path, modalities)


def _read(path: str, modalities: Mapping[str, str]) -> dict[str, Batch]:
    tree = pickle_process.load(path)
    allowed = f"a dict of the dicts {_list(SPLITS)}"
    if not isinstance(tree, dict):
        raise refused(path, f"holds a {type(tree).__name__}", allowed)
    for split in SPLITS:
        if not isinstance(tree.get(split), dict):
            problem = f"a {type(tree[split]).__name__}" if split in tree else "missing"
            problem = f"split {split!r} is {problem} (the file has {_list(tree)})"
            raise refused(path, problem, allowed)
    batches = {
        split: _batch(f"{path}: split {split!r}", tree[split], modalities) for split in SPLITS
    }
    for key, name in modalities.items():
        frames, columns = batches["train"].features[name].shape[1:]
        for split, batch in batches.items():
            _, t, c = batch.features[name].shape
            if (t, c) != (frames, columns):
                problem = f"split {split!r}, key {key!r}: {t} frames of {c} columns"
                raise refused(path, problem, f"{frames} of {columns}, as in 'train'")
        for split, count in fill(batches, name).items():
            fact = f"{count} entries of -inf set to the training mean of their column"
            _log.warning("%s: split %r, key %r: %s", path, split, key, fact)
    return batches


def _check_mapping(modalities: Mapping[str, str]) -> None:
    allowed = "allowed: a mapping from the file's keys to names, such as {'text': 'language'}"
    if not isinstance(modalities, Mapping) or not modalities:
        raise UserError(f"modalities {modalities!r}; {allowed}")
    names = list(modalities.values())
    for name in names:
        if not isinstance(name, str) or not name:
            raise UserError(f"modalities: name {name!r} is not a name; {allowed}")
        if names.count(name) > 1:
            raise UserError(f"modalities: name {name!r} is given twice; allowed: each name once")


def _batch(where: str, arrays: Mapping, modalities: Mapping[str, str]) -> Batch:
    for key in modalities:
        if key not in arrays:
            cubes = [k for k, v in arrays.items() if len(values.shape_of(v)) == 3]
            raise refused(where, f"key {key!r} is unknown", _list(cubes))
    if "regression_labels" not in arrays:
        raise refused(where, "no labels", "a key 'regression_labels' of shape (N,)")
    features, frames = {}, {}
    for key in modalities:
        features[key], frames[key] = _features(f"{where}, key {key!r}", arrays[key])
    first = next(iter(modalities))
    rows = len(features[first])

    def place(key: str, value: object) -> str:
        """Return where a value stands, having checked that it has as many rows as the first."""
        shape, at = values.shape_of(value), f"{where}, key {key!r}"
        if shape and shape[0] != rows:
            raise refused(at, f"{shape[0]} rows", f"{rows}, as key {first!r} has")
        return at

    for key, x in features.items():
        place(key, x)
    shared = [key for key in modalities if f"{key}_lengths" not in arrays]
    for key in modalities.keys() - set(shared):
        lengths, longest = arrays[f"{key}_lengths"], features[key].shape[1]
        at = place(f"{key}_lengths", lengths)
        frames[key] = np.maximum(values.lengths_of(at, lengths, rows, longest), 1)
    if len({features[key].shape[1] for key in shared}) == 1:
        frames |= dict.fromkeys(shared, np.max([frames[key] for key in shared], axis=0))
    valid = {key: np.arange(x.shape[1]) < frames[key][:, None] for key, x in features.items()}
    for key, x in features.items():
        x[~valid[key]] = 0
    label, ids = arrays["regression_labels"], arrays.get("id", list(range(rows)))
    names = values.names_of(place("id", ids), ids, rows)
    for row in [row for row, id in enumerate(ids) if isinstance(id, (list, tuple))]:
        raise refused(f"{where}, key 'id'", f"row {row} is a list", "names, or numbers")
    return Batch(
        {name: features[key] for key, name in modalities.items()},
        {name: valid[key] for key, name in modalities.items()},
        _label(place("regression_labels", label), label),
        budget.words(where, names),
    )


def _features(where: str, array: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return (N, T, C) float32, -inf still in it, and (N,) the frames up to the last not zero."""
    shape, dtype = values.shape_of(array), getattr(array, "dtype", None)
    if dtype is None or dtype.kind != "f":
        problem = f"dtype {dtype}" if dtype is not None else f"a {type(array).__name__}"
        raise refused(where, problem, "an array of float16, float32 or float64")
    if len(shape) != 3 or 0 in shape:
        problem = "is empty:" if 0 in shape else f"has {len(shape)} dimensions:"
        raise refused(where, f"{problem} shape {shape}", "(N, T, C), each at least 1")
    x, frames = np.empty(shape, np.float32), np.empty(len(array), np.int64)
    for start, stop in blocks(array, _BLOCK):
        block = array[start:stop]
        with np.errstate(over="ignore", invalid="ignore"):
            x[start:stop] = block
        bad = ~np.isfinite(x[start:stop]) & (block != -np.inf)
        if bad.any():
            row, frame, column = np.argwhere(bad)[0]
            place = f"row {start + row}, frame {frame}, column {column}"
            problem = f"{place} is {block[row, frame, column]}"
            raise refused(where, problem, "float32 numbers, or -inf for a gap")
        frames[start:stop] = np.maximum(values.last_frames(block), 1)
    return x, frames


def _label(where: str, value: Any) -> np.ndarray:
    """Return (N,) float32 of a list or an array (N,) or (N, 1) of finite numbers."""
    shape = values.shape_of(value)
    if not shape or shape[1:] not in ((), (1,)):
        raise refused(where, values.described(value), "a list, or an array (N,) or (N, 1)")
    for row, label in enumerate(np.reshape(np.asarray(value, object), -1)):
        if not isinstance(label, (int, float, np.number)) or not np.isfinite(label):
            problem = (
                label if isinstance(label, (float, np.floating)) else f"a {type(label).__name__}"
            )
            raise refused(where, f"row {row} is {problem}", "finite numbers")
    return np.reshape(np.asarray(value), -1).astype(np.float32)


def _list(keys: Iterable) -> str:
    return ", ".join(repr(key)[:40] for key in list(keys)[:20] if isinstance(key, str))
