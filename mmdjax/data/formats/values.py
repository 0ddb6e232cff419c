"""Labels, names, lengths and masks as files hold them: checked, and in one form."""

from __future__ import annotations

import math

import numpy as np

from mmdjax.data.formats import lazy
from mmdjax.errors import UserError

_LONGEST_NAME = 256  # characters: numpy pads every name to the longest


def shape_of(value) -> tuple[int, ...]:
    shape = getattr(value, "shape", None)
    return tuple(shape) if shape is not None else (len(value),) if isinstance(value, list) else ()


def by_rows(array: np.ndarray) -> np.ndarray:
    """(N, ...) as (N, L); of no rows as well."""
    return array.reshape(len(array), math.prod(array.shape[1:]))


def what_of(value) -> str:
    return f"shape {shape_of(value)}" if shape_of(value) else f"a {type(value).__name__}"


def _array(where: str, value, count: int, allowed: str) -> np.ndarray:
    """(count, ...) float64."""
    shape = shape_of(value)
    with lazy.reading(where, allowed):
        if not shape or shape[0] != count:
            raise ValueError(f"{what_of(value)} for {count} rows")
        if np.prod(shape[1:], dtype=float) > 10**4:
            raise ValueError(what_of(value))
        try:
            array = np.asarray(value)
            if array.dtype.kind == "c":
                raise ValueError("complex numbers")
            return array.astype(np.float64)
        except TypeError as error:
            raise ValueError(str(error)) from None


def label_of(where: str, value, count: int) -> np.ndarray:
    """(N,) or (N, L) float32, of (N,), (N, 1), (N, L), (N, 1, L), or pairs (N, L, 2) as IEMOCAP's,
    of which the larger counts."""
    allowed = f"{count} numbers, or (N, L), (N, 1, L) or (N, L, 2) of them"
    label = _array(where, value, count, allowed)
    if label.ndim == 3 and label.shape[2] == 2 and label.shape[1] > 1:
        label = label.argmax(2)
    elif label.ndim == 3 and label.shape[1] == 1:
        label = label[:, 0]
    if label.ndim not in (1, 2) or 0 in label.shape[1:]:
        raise UserError(f"{where}: {what_of(value)}; allowed: {allowed}")
    with np.errstate(over="ignore"):
        label = label.astype(np.float32)
    return label[:, 0] if label.shape[1:] == (1,) else label


def lengths_of(where: str, value, count: int, longest: int) -> np.ndarray:
    allowed = f"{count} whole numbers of frames, 0 to {longest}, as <key>_lengths"
    lengths = by_rows(_array(where, value, count, allowed))
    if lengths.shape[1] != 1:
        raise UserError(f"{where}: {what_of(value)}; allowed: {allowed}")
    fits = (lengths >= 0) & (lengths <= longest) & (lengths == np.round(lengths))
    for row in np.flatnonzero(~fits):
        raise UserError(f"{where}: row {row} is {lengths[row, 0]:g}; allowed: {allowed}")
    return lengths[:, 0].astype(np.int64)


def observed_of(where: str, value, features) -> np.ndarray:
    count, frames = len(features), features.shape[1]
    allowed = f"({count},) or ({count}, {frames}) of 0 and 1, as <key>_observed"
    seen = _array(where, value, count, allowed)
    if seen.shape not in ((count,), (count, 1), (count, frames)):
        raise UserError(f"{where}: {what_of(value)}; allowed: {allowed}")
    if not np.isin(seen, (0, 1)).all():
        raise UserError(f"{where}: numbers other than 0 and 1; allowed: {allowed}")
    return seen.reshape(count).astype(bool) if seen.size == count else seen.astype(bool)


def names_of(where: str, value, count: int) -> list[str]:
    """Of (N,), (N, 1), (N, K) or (N, 1, K) words or numbers; several are joined by '_'."""
    allowed = f"{count} names of up to {_LONGEST_NAME} characters, or numbers"
    shape = shape_of(value)
    if not shape or shape[0] != count or np.prod(shape[1:], dtype=float) > 16:
        raise UserError(f"{where}: {what_of(value)} for {count} rows; allowed: {allowed}")
    kind = getattr(getattr(value, "dtype", None), "kind", "O")
    if kind not in "biufSUO":
        raise UserError(f"{where}: dtype {value.dtype}; allowed: {allowed}")
    with lazy.reading(where, allowed):
        items = value if isinstance(value, list) else by_rows(np.asarray(value)).tolist()
    made = []
    for row, item in enumerate(items):
        several = item if isinstance(item, (list, tuple)) else [item]
        words = [text(x) for x in several]
        name = "_".join(word or "" for word in words)
        if len(several) > 16 or None in words or len(name) > _LONGEST_NAME:
            what = "a name too long" if None not in words else f"a {type(item).__name__}"
            raise UserError(f"{where}: row {row} is {what}; allowed: {allowed}")
        made.append(name)
    return made


def text(item) -> str | None:
    """A name or a number as a word, whole numbers without a point; None for anything else."""
    if isinstance(item, np.ndarray) and item.size == 1:
        item = item.reshape(-1)[0]
    item = item.item() if isinstance(item, np.generic) else item
    if isinstance(item, bytes):
        return item.decode(errors="replace")
    if isinstance(item, str):
        return item
    if isinstance(item, float):
        return str(int(item)) if item.is_integer() and abs(item) < 2**53 else str(item)
    return str(int(item)) if isinstance(item, int) and abs(item) < 2**63 else None
