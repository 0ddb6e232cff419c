"""The rows of batches: taken from arrays, or read from files in use while a step is under way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import jax
import numpy as np

from mmdjax.data.stored import Stored
from mmdjax.training.step import Source

AHEAD = 2  # batches that are read before they are needed


class _Batches:
    """The batches of an epoch, as grain reads them: a source of random access."""

    def __init__(self, source: Source, rows: Sequence[np.ndarray]) -> None:
        self._source, self._rows = source, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict:
        rows = self._rows[index]
        # An epoch may go through the data several times.
        return jax.tree.map(lambda a: a[rows % len(a)], self._source.rows)


def in_turn(source: Source, rows: Sequence[np.ndarray]) -> Iterable[dict]:
    """Return `source.rows` at each of the rows, one batch after the other."""
    batches = _Batches(source, rows)
    if not any(isinstance(a, Stored) for a in jax.tree.leaves(source.rows)) or not rows:
        return (batches[index] for index in range(len(batches)))
    import grain.python as grain  # a second, which sets in memory need not wait for

    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=AHEAD)
    return grain.MapDataset.source(batches).to_iter_dataset(options)
