"""Rows made of other rows when they are read: channels, splits, other shapes and dtypes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmdjax.data.formats.lazy import BLOCK, Lazy, Ragged, is_ragged, row_bytes


def columns(rows, first: int, last: int):
    """Channels [first, last) of rows, dense or ragged."""
    width = last - first
    if is_ragged(rows):
        return Ragged(
            rows.lengths, width, rows.dtype, lambda at: [x[:, first:last] for x in rows.read(at)]
        )
    shape = (*rows.shape[:-1], width)
    return Lazy(shape, rows.dtype, lambda start, stop: rows[start:stop][..., first:last])


def with_columns(rows, replaced: Sequence[tuple[int, int, object]]):
    """`rows` with channels [first, last) taken from others of as many rows."""
    if is_ragged(rows):
        lengths = np.max([rows.lengths, *(source.lengths for _, _, source in replaced)], 0)

        def sequences(at):
            at = list(at)
            made = [np.zeros((lengths[i], rows.shape[2]), rows.dtype) for i in at]
            for first, last, source in ((0, rows.shape[2], rows), *replaced):
                for x, new in zip(made, source.read(at), strict=True):
                    x[: len(new), first:last] = new
            return made

        return Ragged(lengths, rows.shape[2], rows.dtype, sequences)

    def read(start, stop):
        made = np.array(rows[start:stop])
        for first, last, source in replaced:
            made[..., first:last] = source[start:stop]
        return made

    return Lazy(rows.shape, rows.dtype, read)


def reshaped(rows, trailing: Sequence[int]):
    """(N, ...) with other dimensions after the first."""
    shape = (len(rows), *trailing)
    return Lazy(
        shape, rows.dtype, lambda start, stop: rows[start:stop].reshape(stop - start, *trailing)
    )


def chosen(rows, index: np.ndarray):
    """The rows at `index`, which ascends; read in spans of at most a block."""
    if is_ragged(rows):
        lengths = rows.lengths[index]
        return Ragged(lengths, rows.shape[2], rows.dtype, lambda at: rows.read(index[list(at)]))
    step = max(1, BLOCK // row_bytes(rows))

    def read(start, stop):
        wanted = index[start:stop]
        made = np.empty((len(wanted), *rows.shape[1:]), rows.dtype)
        done = 0
        while done < len(wanted):
            first = wanted[done]
            end = int(np.searchsorted(wanted, first + step))
            made[done:end] = rows[first : wanted[end - 1] + 1][wanted[done:end] - first]
            done = end
        return made

    return Lazy((len(index), *rows.shape[1:]), rows.dtype, read)


def as_type(rows, dtype):
    """Dense rows of another dtype."""
    if rows.dtype == dtype:
        return rows
    return Lazy(rows.shape, dtype, lambda start, stop: rows[start:stop].astype(dtype))


def zeros(shape: Sequence[int], dtype) -> Lazy:
    return Lazy(shape, dtype, lambda start, stop: np.zeros((stop - start, *shape[1:]), dtype))


def scattered(rows, parts: Sequence[tuple[np.ndarray, object]]):
    """`rows` with those at `index` taken from others, for each (index, others); index ascends."""

    def read(start, stop):
        made = np.array(rows[start:stop])
        for index, source in parts:
            first, last = np.searchsorted(index, [start, stop])
            if first < last:
                made[index[first:last] - start] = source[int(first) : int(last)]
        return made

    return Lazy(rows.shape, rows.dtype, read)
