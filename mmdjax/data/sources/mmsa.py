"""Reads the field's `{train, valid, test}` pickles: `aligned_50.pkl`, `unaligned_50.pkl` (MMSA)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping

import numpy as np

from mmdjax.data.formats import safe_pickle
from mmdjax.errors import UserError
from mmdjax.types import Batch

SPLITS = ("train", "valid", "test")
_BLOCK = 2**22  # elements worked on at once: bounds every temporary, whatever the file's size
_log = logging.getLogger(__name__)


def read(path: str, modalities: Mapping[str, str]) -> dict[str, Batch]:
    """The three splits of an MMSA pickle.

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
    tree = safe_pickle.load(path)
    needed = f"a dict of the dicts {_list(SPLITS)}"
    if not isinstance(tree, dict):
        raise UserError(f"{path}: holds a {type(tree).__name__}; allowed: {needed}")
    for split in SPLITS:
        if not isinstance(tree.get(split), dict):
            what = f"a {type(tree[split]).__name__}" if split in tree else "missing"
            what = f"split {split!r} is {what} (the file has {_list(tree)})"
            raise UserError(f"{path}: {what}; allowed: {needed}")
    tree = {split: dict(tree[split]) for split in SPLITS}  # ours to empty: arrays go as we copy
    batches = {}
    for split in SPLITS:
        batches[split] = _batch(f"{path}: split {split!r}", tree.pop(split), modalities)
    for key, name in modalities.items():
        _same_shape(path, key, {split: b.features[name].shape for split, b in batches.items()})
        _fill(path, key, name, batches)
    return batches


def _check_mapping(modalities: Mapping[str, str]) -> None:
    what = "allowed: a mapping from the file's keys to names, such as {'text': 'language'}"
    if not isinstance(modalities, Mapping) or not modalities:
        raise UserError(f"modalities {modalities!r}; {what}")
    names = list(modalities.values())
    for name in names:
        if not isinstance(name, str) or not name:
            raise UserError(f"modalities: name {name!r} is not a name; {what}")
        if names.count(name) > 1:
            raise UserError(f"modalities: name {name!r} is given twice; allowed: each name once")


def _batch(where: str, part: dict, modalities: Mapping[str, str]) -> Batch:
    for key in modalities:
        if key not in part:
            cubes = [k for k, v in part.items() if isinstance(v, np.ndarray) and v.ndim == 3]
            raise UserError(f"{where}: key {key!r} is unknown; allowed: {_list(cubes)}")
    if "regression_labels" not in part:
        raise UserError(f"{where}: no labels; allowed: a key 'regression_labels' of shape (N,)")
    features, frames = {}, {}
    for key in modalities:
        features[key], frames[key] = _features(f"{where}, key {key!r}", part.pop(key))
    first = next(iter(modalities))
    rows = len(features[first])
    for key, x in features.items():
        _same_rows(f"{where}, key {key!r}", len(x), rows, first)
    own = [key for key in modalities if f"{key}_lengths" in part]
    shared = [key for key in modalities if key not in own]
    for key in own:
        at = f"{where}, key '{key}_lengths'"
        frames[key] = _lengths(at, part[f"{key}_lengths"], rows, first, features[key].shape[1])
    if len({features[key].shape[1] for key in shared}) == 1:
        longest = np.max([frames[key] for key in shared], axis=0)
        frames |= dict.fromkeys(shared, longest)
    valid = {}
    for key, x in features.items():
        valid[key] = np.arange(x.shape[1]) < frames[key][:, None]
        x[~valid[key]] = 0
    at, label = f"{where}, key 'regression_labels'", part.get("regression_labels")
    return Batch(
        features={name: features[key] for key, name in modalities.items()},
        valid={name: valid[key] for key, name in modalities.items()},
        label=_labels(at, label, rows, first),
        id=_ids(f"{where}, key 'id'", part.get("id", list(range(rows))), rows, first),
    )


def _features(where: str, raw) -> tuple[np.ndarray, np.ndarray]:
    """(N, T, C) float32, -inf still in it, and (N,) the frames up to the last one not zero."""
    if not isinstance(raw, np.ndarray) or raw.dtype.kind != "f":
        what = f"dtype {raw.dtype}" if isinstance(raw, np.ndarray) else f"a {type(raw).__name__}"
        raise UserError(f"{where}: {what}; allowed: an array of float16, float32 or float64")
    if raw.ndim != 3 or 0 in raw.shape:
        what = "is empty:" if 0 in raw.shape else f"has {raw.ndim} dimensions:"
        raise UserError(f"{where}: {what} shape {raw.shape}; allowed: (N, T, C), each at least 1")
    x = np.empty(raw.shape, np.float32)
    frames = np.empty(len(raw), np.int64)
    for rows in _blocks(raw):
        with np.errstate(over="ignore", invalid="ignore"):
            x[rows] = raw[rows]
        bad = ~np.isfinite(x[rows]) & (raw[rows] != -np.inf)
        if bad.any():
            row, frame, column = np.argwhere(bad)[0] + (rows.start, 0, 0)
            what = f"row {row}, frame {frame}, column {column} is {raw[row, frame, column]}"
            raise UserError(f"{where}: {what}; allowed: float32 numbers, or -inf for a gap")
        real = (raw[rows] != 0).any(axis=2)
        last = raw.shape[1] - real[:, ::-1].argmax(axis=1)
        frames[rows] = np.where(real.any(axis=1), last, 1)
    return x, frames


def _blocks(x: np.ndarray) -> Iterator[slice]:
    step = max(1, _BLOCK // (x.shape[1] * x.shape[2]))
    return (slice(start, start + step) for start in range(0, len(x), step))


def _same_rows(where: str, rows: int, expected: int, first: str) -> None:
    if rows != expected:
        raise UserError(f"{where}: {rows} rows; allowed: {expected}, as key {first!r} has")


def _column(where: str, value, rows: int, first: str, fits, allowed: str) -> list:
    """`value`, a list or an array (N,) or (N, 1), as a list of N items that `fits` accepts."""
    if isinstance(value, np.ndarray) and value.shape in ((value.size,), (value.size, 1)):
        items = value.reshape(-1).tolist()
    elif isinstance(value, (list, tuple)):
        items = [x.item() if isinstance(x, np.generic) else x for x in value]
    else:
        what = f"shape {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
        raise UserError(f"{where}: {what}; allowed: a list, or an array (N,) or (N, 1)")
    _same_rows(where, len(items), rows, first)
    for row, item in enumerate(items):
        if not fits(item):
            brief = isinstance(item, float) or (isinstance(item, int) and abs(item) < 2**63)
            given = item if brief else f"a {type(item).__name__}"
            raise UserError(f"{where}: row {row} is {given}; allowed: {allowed}")
    return items


def _labels(where: str, value, rows: int, first: str) -> np.ndarray:
    def fits(x):
        return isinstance(x, (int, float)) and np.isfinite(x)

    return np.array(_column(where, value, rows, first, fits, "finite numbers"), np.float32)


def _lengths(where: str, value, rows: int, first: str, longest: int) -> np.ndarray:
    def fits(x):
        return isinstance(x, (int, float)) and 0 <= x <= longest and x == int(x)

    allowed = f"whole numbers of frames, 0 to {longest}"
    return np.maximum(np.array(_column(where, value, rows, first, fits, allowed), np.int64), 1)


def _ids(where: str, value, rows: int, first: str) -> np.ndarray:
    def fits(x):  # numpy pads every name to the longest
        short = isinstance(x, (str, bytes)) and len(x) <= 256
        return short or (isinstance(x, int) and abs(x) < 2**63)

    items = _column(where, value, rows, first, fits, "names of up to 256 characters, or numbers")
    return np.array([x.decode(errors="replace") if isinstance(x, bytes) else str(x) for x in items])


def _same_shape(path, key: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
    frames, columns = shapes["train"][1:]
    for split, (_, t, c) in shapes.items():
        if (t, c) != (frames, columns):
            what = f"split {split!r}, key {key!r}: {t} frames of {c} columns"
            raise UserError(f"{path}: {what}; allowed: {frames} of {columns}, as in 'train'")


def _fill(path, key: str, name: str, batches: Mapping[str, Batch]) -> None:
    """Replaces -inf, in place, by the training mean of its column."""
    gaps = {}
    for split, batch in batches.items():
        x = batch.features[name]
        gaps[split] = sum(np.isneginf(x[rows]).sum() for rows in _blocks(x))
    if not any(gaps.values()):
        return
    mean = _mean(batches["train"].features[name], batches["train"].valid[name])
    for split, count in gaps.items():
        x = batches[split].features[name]
        for rows in _blocks(x) if count else ():
            np.copyto(x[rows], mean, where=np.isneginf(x[rows]))
        if count:
            what = "entries of -inf set to the training mean of their column"
            _log.warning("%s: split %r, key %r: %d %s", path, split, key, count, what)


def _mean(x: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """(C,) float32, over the finite entries of valid frames; zero where there are none."""
    total, count = np.zeros(x.shape[2]), np.zeros(x.shape[2])
    for rows in _blocks(x):
        known = valid[rows, :, None] & np.isfinite(x[rows])
        total += np.where(known, x[rows], 0).sum(axis=(0, 1), dtype=np.float64)
        count += known.sum(axis=(0, 1))
    return (total / np.maximum(count, 1)).astype(np.float32)


def _list(keys) -> str:
    return ", ".join(repr(key)[:40] for key in list(keys)[:20] if isinstance(key, str))
