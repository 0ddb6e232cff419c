"""Rows made of other rows when they are read: channels, splits, other shapes and dtypes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
from numpy.typing import DTypeLike

from mmdjax.data.formats.lazy import BLOCK, Lazy, Ragged, Rows, is_ragged, row_bytes


def mapped(rows: Rows, trailing: Sequence[int], dtype: DTypeLike, function: Callable) -> Lazy:
    """Return dense rows (N, *trailing): `function` of each block that is read."""
    return Lazy((len(rows), *trailing), dtype, lambda start, stop: function(rows[start:stop]))


def columns(rows: Rows, first: int, last: int) -> Lazy | Ragged:
    """Return channels [first, last) of rows, dense or ragged."""
    width = last - first
    if is_ragged(rows):
        return Ragged(
            rows.lengths, width, rows.dtype, lambda at: [x[:, first:last] for x in rows.read(at)]
        )
    return mapped(rows, (*rows.shape[1:-1], width), rows.dtype, lambda x: x[..., first:last])


def with_columns(rows: Rows, replaced: Sequence[tuple[int, int, Rows]]) -> Lazy | Ragged:
    """Return `rows` with channels [first, last) taken from others of as many rows."""
    if is_ragged(rows):
        lengths = np.max([rows.lengths, *(source.lengths for _, _, source in replaced)], 0)

        def sequences(at: Collection[int]) -> list[np.ndarray]:
            at = list(at)
            joined = [np.zeros((lengths[i], rows.shape[2]), rows.dtype) for i in at]
            for first, last, source in ((0, rows.shape[2], rows), *replaced):
                for x, new in zip(joined, source.read(at), strict=True):
                    x[: len(new), first:last] = new
            return joined

        return Ragged(lengths, rows.shape[2], rows.dtype, sequences)

    def read(start: int, stop: int) -> np.ndarray:
        block = np.array(rows[start:stop])
        for first, last, source in replaced:
            block[..., first:last] = source[start:stop]
        return block

    return Lazy(rows.shape, rows.dtype, read)


def reshaped(rows: Rows, trailing: Sequence[int]) -> Lazy:
    """Return rows (N, ...) with other dimensions after the first."""
    return mapped(rows, trailing, rows.dtype, lambda x: x.reshape(len(x), *trailing))


def as_type(rows: np.ndarray | Lazy, dtype: DTypeLike) -> np.ndarray | Lazy:
    """Return dense rows of another dtype."""
    if rows.dtype == dtype:
        return rows
    return mapped(rows, rows.shape[1:], dtype, lambda x: x.astype(dtype))


def chosen(rows: Rows, index: np.ndarray) -> Lazy | Ragged:
    """Return the rows at `index`, which ascends; they are read in spans of at most a block."""
    if is_ragged(rows):
        lengths = rows.lengths[index]
        return Ragged(lengths, rows.shape[2], rows.dtype, lambda at: rows.read(index[list(at)]))
    step = max(1, BLOCK // row_bytes(rows))

    def read(start: int, stop: int) -> np.ndarray:
        places, done = index[start:stop], 0
        block = np.empty((len(places), *rows.shape[1:]), rows.dtype)
        while done < len(places):
            first = places[done]
            end = int(np.searchsorted(places, first + step))
            block[done:end] = rows[first : places[end - 1] + 1][places[done:end] - first]
            done = end
        return block

    return Lazy((len(index), *rows.shape[1:]), rows.dtype, read)


def scattered(rows: Rows, index: np.ndarray, source: Rows) -> Lazy:
    """Return `rows` with those at `index`, which ascends, taken from `source`."""

    def read(start: int, stop: int) -> np.ndarray:
        block = np.array(rows[start:stop])
        first, last = np.searchsorted(index, [start, stop])
        if first < last:
            block[index[first:last] - start] = source[int(first) : int(last)]
        return block

    return Lazy(rows.shape, rows.dtype, read)


def sequences_like(value: list | np.ndarray, rows: Ragged) -> list | np.ndarray:
    """Return sequences as `value` holds them, in a list or in an array of objects; each is read
    when it is written."""

    def sequence(row: int) -> Lazy:
        dtype = value[row].dtype

        def read(start: int, stop: int) -> np.ndarray:
            return rows.read([row])[0][start:stop].astype(dtype)

        return Lazy((rows.lengths[row].item(), rows.shape[2]), dtype, read)

    sequences = [sequence(row) for row in range(len(rows))]
    if isinstance(value, list):
        return sequences
    array = np.empty(len(sequences), object)
    array[:] = sequences
    return array
