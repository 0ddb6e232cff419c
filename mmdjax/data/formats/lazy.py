"""Rows that stay in their file until they are asked for, so that a block is all memory holds.

Nothing is mapped into memory: the pages of a mapped file count as memory used.
"""

from __future__ import annotations

import contextlib
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import DTypeLike

from mmdjax.errors import UserError

BLOCK = 2**24  # bytes of rows held at once
LARGEST_ROW = 2**31  # bytes: a row is read whole
NUMBERS = "fiu"  # kinds of dtype that a feature may have
# What a damaged file makes of Python's and numpy's own readers.
_BROKEN = (EOFError, KeyError, OverflowError, RuntimeError, SyntaxError, ValueError)
_BROKEN += (struct.error, zipfile.BadZipFile, zlib.error)


def one_line(thing: object, longest: int = 300) -> str:
    """Return names from files in a form for messages, without line breaks or control characters."""
    text = str(thing)[: longest + 1]
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return text if len(text) <= longest else text[:longest] + "..."


def quoted(name: object, longest: int = 60) -> str:
    """Return a name from a file in quotes, for a message."""
    return repr(one_line(name, longest))


def listed(names: Iterable) -> str:
    """Return the first names from a file in quotes, for a message."""
    return ", ".join(quoted(name, 40) for name in list(names)[:20]) or "nothing"


def refused(where: object, problem: object, allowed: str) -> UserError:
    """Return the error to raise: one line with the place, the problem and what is allowed."""
    return UserError(f"{one_line(where, 4096)}: {problem}; allowed: {allowed}")


@contextlib.contextmanager
def reading(where: object, allowed: str) -> Iterator[None]:
    """Turn what a damaged or unreadable file raises into a `UserError` of one line."""
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        problem = error.strerror or one_line(error)
    except MemoryError:
        problem = "needs more memory than there is"
    except _BROKEN as error:
        problem = f"cannot be read: {one_line(error)}"
    else:
        return
    raise refused(where, problem, allowed)


class Lazy:
    """(N, ...) rows; `rows[a:b]` is a new numpy array, read at that moment.

    Attributes:
      shape, dtype: of the whole.
      read: (start, stop) -> array (stop - start, ...).
    """

    def __init__(
        self, shape: Sequence[int], dtype: DTypeLike, read: Callable[[int, int], np.ndarray]
    ) -> None:
        self.shape, self.dtype, self.read = tuple(shape), np.dtype(dtype), read

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int | slice) -> np.ndarray:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step < 1:
                raise IndexError("rows are read forwards")
            return self.read(start, max(start, stop))[::step]
        start = index + len(self) if index < 0 else index
        if not 0 <= start < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        return self.read(start, start + 1)[0]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.read(0, len(self)), dtype)


class ArrayInFile(Lazy):
    """An array that lies in a file at `offset`: in C order, not compressed.

    `state` is that of the file when it was opened.

    Raises:
      UserError: when rows are read, if the file has changed or cannot be read.
    """

    def __init__(
        self, path: str | os.PathLike, offset: int, shape: Sequence[int], dtype: DTypeLike
    ) -> None:
        super().__init__(shape, dtype, self._rows)
        self.path, self.offset = path, offset
        self.state = _state(os.stat(path))

    def _rows(self, start: int, stop: int) -> np.ndarray:
        with reading(self.path, "the file as it was when it was opened"):
            rows = np.empty((stop - start, *self.shape[1:]), self.dtype)
            with open(self.path, "rb", buffering=0) as file:
                if _state(os.fstat(file.fileno())) != self.state:
                    raise ValueError("it has changed since it was opened")
                file.seek(self.offset + start * row_bytes(rows))
                fill(rows, file)
            return rows


def _state(stat: os.stat_result) -> tuple[int, int]:
    return stat.st_size, stat.st_mtime_ns


def bytes_of(array: np.ndarray) -> np.ndarray:
    """Return the bytes of a contiguous array, without a copy."""
    return array.reshape(-1).view(np.uint8)


def fill(array: np.ndarray, file: Any) -> None:
    """Read the bytes of a contiguous array; raise `EOFError` if there are fewer."""
    buffer, done = memoryview(bytes_of(array)), 0
    while done < len(buffer):
        count = file.readinto(buffer[done : done + 2**30])
        if not count:
            raise EOFError("it ends before its last row")
        done += count


class Ragged:
    """N sequences (T_i, C) of unequal length; `rows[a:b]` is a list of arrays, read at that moment.

    Attributes:
      lengths: (N,) int frames; 0 where there is no sequence.
      shape: (N, None, C).
      read: (rows) -> list of arrays (T_i, C), for a sequence of row numbers.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        channels: int,
        dtype: DTypeLike,
        read: Callable[[Collection[int]], list[np.ndarray]],
    ) -> None:
        self.lengths, self.read = np.asarray(lengths, np.int64), read
        self.shape, self.dtype = (len(self.lengths), None, channels), np.dtype(dtype)

    ndim = 3

    @property
    def nbytes(self) -> int:
        return int(self.lengths.sum()) * self.shape[2] * self.dtype.itemsize

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int | slice) -> np.ndarray | list[np.ndarray]:
        if isinstance(index, slice):
            return self.read(range(*index.indices(len(self))))
        return self.read([range(len(self))[index]])[0]


# (N, T, C), or N sequences (T_i, C), where shape is (N, None, C); `rows[a:b]` is an array, or a
# list of them, read at that moment.
Rows = np.ndarray | Lazy | Ragged


def ragged(sequences: Sequence) -> Ragged:
    """Return at least one sequence (T_i, C), arrays or `Lazy`, as rows."""
    lengths, first = np.array([len(x) for x in sequences]), sequences[0]

    def read(rows: Collection[int]) -> list[np.ndarray]:
        return [np.asarray(sequences[row]) for row in rows]

    return Ragged(lengths, first.shape[1], first.dtype, read)


def row_by_row(
    lengths: np.ndarray, channels: int, dtype: DTypeLike, row_of: Callable[[int], np.ndarray]
) -> Lazy | Ragged:
    """Return (N, T, C) if all N rows have T frames, else N sequences (T_i, C).

    Args:
      row_of: number -> array (T_i, C) of `dtype`.
    """
    if not lengths.min() == lengths.max() > 0:
        return Ragged(lengths, channels, dtype, lambda rows: [row_of(row) for row in rows])
    shape = (int(lengths[0]), channels)

    def read(start: int, stop: int) -> np.ndarray:
        block = np.empty((stop - start, *shape), dtype)
        for row in range(start, stop):
            block[row - start] = row_of(row)
        return block

    return Lazy((len(lengths), *shape), dtype, read)


def is_ragged(rows: Rows) -> TypeGuard[Ragged]:
    return None in rows.shape


def row_bytes(rows: np.ndarray | Lazy) -> int:
    """Return the bytes of one row of a dense array, at least 1."""
    return max(1, math.prod(rows.shape[1:]) * np.dtype(rows.dtype).itemsize)


def blocks(rows: Rows, size: int = 0) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of consecutive blocks of at most `size` bytes, or of one row.

    Args:
      rows: dense or ragged.
      size: in bytes; `BLOCK` by default.
    """
    size = size or BLOCK
    if not is_ragged(rows):
        step = max(1, size // row_bytes(rows))
        yield from ((start, min(start + step, len(rows))) for start in range(0, len(rows), step))
        return
    ends = np.cumsum(rows.lengths * rows.shape[2] * rows.dtype.itemsize + 1)
    start = 0
    while start < len(rows):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + size, "right")))
        yield start, stop
        start = stop


def check_size(where: object, shape: Sequence[int], dtype: np.dtype, most: int) -> None:
    """Raise `UserError` if an array is larger than the bytes that hold it, `most`, or has rows
    beyond `LARGEST_ROW`."""
    padded = math.prod(max(n, 1) for n in shape) * max(dtype.itemsize, 1)
    if padded > (most if all(shape) else 2**40):  # numpy makes no empty array beyond 2 ** 63
        allowed = f"at most its {most} bytes"
    elif math.prod(shape[1:]) * dtype.itemsize > LARGEST_ROW:
        allowed = f"at most {LARGEST_ROW} bytes a row"
    else:
        return
    raise refused(where, f"declares shape {one_line(tuple(shape))} of {dtype.name}", allowed)
