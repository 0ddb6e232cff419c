"""Labels, names, lengths and masks as files hold them: checked, and in one form."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from mmdjax.data.formats import budget
from mmdjax.data.formats.lazy import Rows, reading, refused

_LONGEST_NAME = 256  # characters: numpy pads every name to the longest
_MOST_CLASSES = 256  # more of them are sentences
MISSING = {"", "nan", "NaN", "NA", "null"}  # words of what is not there


def shape_of(value: object) -> tuple[int, ...]:
    """Return the shape of an array, (N,) of a list or tuple, and () of anything else."""
    shape = getattr(value, "shape", None)
    if shape is not None:
        return tuple(shape)
    return (len(value),) if isinstance(value, (list, tuple)) else ()


def array_of(value: Any) -> np.ndarray:
    """Return an array, or a list as one; words in a list stay objects, as numpy would pad all of
    them to the longest."""
    words = isinstance(value, (list, tuple)) and _has_words(value)
    return np.asarray(value, object if words else None)


def _has_words(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_has_words, value))
    return isinstance(value, (str, bytes)) or (
        getattr(getattr(value, "dtype", None), "kind", "") in ("S", "U")
    )


def by_rows(array: np.ndarray) -> np.ndarray:
    """Return (N, ...) as (N, L), also where N is 0."""
    return array.reshape(len(array), math.prod(array.shape[1:]))


def described(value: object) -> str:
    """Return the shape or the type of a value, for a message."""
    return f"shape {shape_of(value)}" if shape_of(value) else f"a {type(value).__name__}"


def last_frames(x: np.ndarray) -> np.ndarray:
    """Return (N,) frames of x (N, T, C) up to the last that is not zero, 0 where none is."""
    real = (x != 0).any(-1)
    return np.where(real.any(1), x.shape[1] - real[:, ::-1].argmax(1), 0)


def looks_like_classes(label: np.ndarray) -> bool:
    """Return whether all of label (N,) are whole numbers from 0."""
    return bool(((label >= 0) & (label == np.round(label)) & np.isfinite(label)).all())


def _array(where: str, value: Any, count: int, allowed: str) -> np.ndarray:
    """Return (count, ...) float64."""
    shape = shape_of(value)
    with reading(where, allowed):
        if not shape or shape[0] != count:
            raise ValueError(f"{described(value)} for {count} rows")
        if np.prod(shape[1:], dtype=float) > 10**4:
            raise ValueError(described(value))
        entries = count * math.prod(shape[1:])
        budget.check(where, "as numbers", 12 * entries)
        budget.spend(where, "as numbers", 4 * entries)
        try:
            array = array_of(value)
            if array.dtype.kind == "c":
                raise ValueError("complex numbers")
            return array.astype(np.float64)
        except TypeError as error:
            raise ValueError(str(error)) from None


def class_names(columns: Iterable) -> tuple[str, ...]:
    """Return the names of classes in columns of labels, sorted; () unless all hold words.

    Words of `MISSING` are labels that are missing. Where one spells a number all have to.
    """
    names: set[str] = set()
    for column in columns:
        words = _words(column)
        if words is None:
            return ()
        names.update(words)
    names -= MISSING
    if any(_is_number(name) for name in names) or len(names) > _MOST_CLASSES:
        return ()
    return tuple(sorted(names))


def _words(value: Any) -> list[str] | None:
    """Return a column (N,) or (N, 1) of str or bytes as a list; None of anything else."""
    shape = shape_of(value)
    kind = getattr(getattr(value, "dtype", None), "kind", "O")
    if kind not in "USO" or shape[1:] not in ((), (1,)) or not shape:
        return None
    if not isinstance(value, (list, tuple)):
        budget.check("words", "as an array", value.dtype.itemsize * math.prod(shape))
        value = by_rows(np.asarray(value))[:, 0].tolist()
    items = value
    if not all(isinstance(x, (str, bytes)) and len(x) <= _LONGEST_NAME for x in items):
        return None
    return [text(x) or "" for x in items]


def _is_number(word: str) -> bool:
    try:
        return float(word) is not None
    except ValueError:
        return False


def label_of(where: str, value: Any, count: int, classes: Sequence[str] = ()) -> np.ndarray:
    """Return labels (N,) or (N, L), float32, or int32 where the file has whole numbers by type.

    Files hold (N,), (N, 1), (N, L), (N, 1, L), or pairs (N, L, 2) as IEMOCAP's, of which the larger
    counts.

    Args:
      classes: the names of which `value` holds one a row, if they are words; see `class_names`.
    """
    if classes:
        number = {name: place for place, name in enumerate(classes)}
        value = [number.get(name, np.nan) for name in _words(value) or ()]
    allowed = f"{count} numbers, or (N, L), (N, 1, L) or (N, L, 2) of them"
    label = _array(where, value, count, allowed)
    whole = array_of(value).dtype.kind in "iub" and np.abs(label).max(initial=0) < 2**31
    if label.ndim == 3 and label.shape[2] == 2 and label.shape[1] > 1:
        label = label.argmax(2)
    elif label.ndim == 3 and label.shape[1] == 1:
        label = label[:, 0]
    if label.ndim not in (1, 2) or 0 in label.shape[1:]:
        raise refused(where, described(value), allowed)
    with np.errstate(over="ignore"):
        label = label.astype(np.int32 if whole else np.float32)
    return label[:, 0] if label.shape[1:] == (1,) else label


def lengths_of(where: str, value: Any, count: int, longest: int) -> np.ndarray:
    """Return (N,) int64 frames, each in [0, longest], of (N,) or (N, 1) numbers."""
    allowed = f"{count} whole numbers of frames, 0 to {longest}, as <key>_lengths"
    lengths = by_rows(_array(where, value, count, allowed))
    if lengths.shape[1] != 1:
        raise refused(where, described(value), allowed)
    fits = (lengths >= 0) & (lengths <= longest) & (lengths == np.round(lengths))
    for row in np.flatnonzero(~fits):
        raise refused(where, f"row {row} is {lengths[row, 0]:g}", allowed)
    return lengths[:, 0].astype(np.int64)


def observed_of(where: str, value: Any, features: Rows) -> np.ndarray:
    """Return (N,) or (N, T) bool, of as many zeros and ones."""
    count, frames = len(features), features.shape[1]
    allowed = f"({count},) or ({count}, {frames}) of 0 and 1, as <key>_observed"
    observed = _array(where, value, count, allowed)
    if observed.shape not in ((count,), (count, 1), (count, frames)):
        raise refused(where, described(value), allowed)
    if not np.isin(observed, (0, 1)).all():
        raise refused(where, "numbers other than 0 and 1", allowed)
    return (observed.reshape(count) if observed.size == count else observed).astype(bool)


def names_of(where: str, value: Any, count: int) -> list[str]:
    """Return (N,), (N, 1), (N, K) or (N, 1, K) words or numbers; several are joined by '_'."""
    allowed = f"{count} names of up to {_LONGEST_NAME} characters, or numbers"
    shape = shape_of(value)
    if not shape or shape[0] != count or np.prod(shape[1:], dtype=float) > 16:
        raise refused(where, f"{described(value)} for {count} rows", allowed)
    if getattr(getattr(value, "dtype", None), "kind", "O") not in "biufSUO":
        raise refused(where, f"dtype {value.dtype}", allowed)
    if not isinstance(value, (list, tuple)):
        budget.check(where, "names", value.dtype.itemsize * math.prod(shape))
        with reading(where, allowed):
            value = by_rows(np.asarray(value)).tolist()
    names = []
    for row, item in enumerate(value):
        several = item if isinstance(item, (list, tuple)) else [item]
        words = [text(word) for word in several]
        name = "_".join(word or "" for word in words)
        if None in words:
            raise refused(where, f"row {row} is a {type(item).__name__}", allowed)
        if len(several) > 16 or len(name) > _LONGEST_NAME:
            raise refused(where, f"row {row} is a name too long", allowed)
        names.append(name)
    return names


def text(item: object) -> str | None:
    """Return a name or a number as a word, whole numbers without a point; else None."""
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
