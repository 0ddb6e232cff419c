"""Compiled functions over any number of rows, in batches of one shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from mmdjax.runtime.processes import dealt


def nothing() -> None:
    """Do nothing where nobody watches the progress."""


def in_batches(
    function: Callable,
    arrays: Sequence[np.ndarray],
    batch: int,
    advance: Callable[[], None] = nothing,
) -> Any:
    """Return function over all rows; the last batch is filled up with repeated rows.

    Several processes share the batches; all of them get the whole result.

    Args:
      function: arrays -> a pytree of arrays, which are joined over all rows.
      advance: called after each batch.
    """
    rows, results = len(arrays[0]), []

    def call(index: int):
        batches = [a[index * batch : (index + 1) * batch] for a in arrays]
        if len(batches[0]) < batch:
            batches = [a[np.resize(np.arange(len(a)), batch)] for a in batches]
        return function(*batches)

    for index, result in enumerate(dealt(-(-rows // batch), call)):
        size = min(batch, rows - index * batch)
        results.append(jax.tree.map(lambda a, size=size: np.asarray(a)[:size], result))
        advance()
    return jax.tree.map(lambda *a: np.concatenate(a), *results)


def by_length(
    function: Callable,
    arrays: Sequence[np.ndarray],
    bucket: np.ndarray,
    buckets: Sequence[int],
    batch: int,
    advance: Callable[[], None] = nothing,
) -> Any:
    """Return function over all rows, in batches of one length each.

    Args:
      function: (length, *arrays) -> a pytree of arrays, equally long for every length.
      bucket: (R,) index into `buckets`, the lengths, of each row.
    """
    places, results = [], []
    for index, length in enumerate(buckets):
        rows = np.flatnonzero(bucket == index)
        if rows.size:
            call = lambda *columns, length=length: function(length, *columns)  # noqa: E731
            results.append(in_batches(call, [a[rows] for a in arrays], batch, advance))
            places.append(rows)
    back = np.argsort(np.concatenate(places))
    return jax.tree.map(lambda *a: np.concatenate(a)[back], *results)


def calls_by_length(bucket: np.ndarray, batch: int) -> int:
    """Return how many calls `by_length` makes."""
    return sum(-(-int(count) // batch) for count in np.bincount(bucket))
