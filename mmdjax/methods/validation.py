"""The loss of score networks on validation data, under fixed times, noise and conditions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from mmdjax.runtime.compilation import AheadOfTime, shapes_of, shared
from mmdjax.training.step import Loss, Source
from mmdjax.types import Params

REPEATS = 4
ROWS = 256  # a call: bounds memory, whatever the size of the split


@shared
def compiled(loss: Callable) -> AheadOfTime:
    """Return the compiled loss, which phases that share it share, too."""
    return AheadOfTime(loss, static_argnames="frames")


def score_validation(
    loss: Callable, source: Source, bucket: np.ndarray, buckets: Sequence[int]
) -> Callable:
    """Return params -> the mean loss over all rows.

    Args:
      loss: as `training.step` takes it.
      source: the validation split. bucket: (N,) index into `buckets` of each row.
    """
    call = compiled(loss)

    def validate(params) -> float:
        total = 0.0
        for repeat in range(REPEATS):
            for rows, frames, number in _calls(bucket, buckets):
                key = jax.random.fold_in(jax.random.key(repeat), number)
                weight = np.ones(rows.size, np.float32)
                value = call(params, source.at(rows), weight, key, frames=frames)
                total += float(value) * rows.size
        return total / (REPEATS * len(bucket))

    return validate


def prepare(
    loss: Loss,
    params: Params,
    source: Source,
    bucket: np.ndarray,
    buckets: Sequence[int],
) -> None:
    """Start compiling the loss in the background; params, source: arrays or their shapes."""
    key, common = jax.eval_shape(lambda: jax.random.key(0)), shapes_of(source.common)
    for rows, frames, _ in _calls(bucket, buckets):
        shape = lambda a, n=rows.size: jax.ShapeDtypeStruct((n, *a.shape[1:]), a.dtype)  # noqa: E731
        columns = jax.tree.map(shape, source.rows) | common
        weight = jax.ShapeDtypeStruct(rows.shape, jnp.float32)
        compiled(loss).prepare(params, columns, weight, key, frames=frames)


def _calls(bucket: np.ndarray, buckets: Sequence[int]) -> Iterator[tuple[np.ndarray, int, int]]:
    """Yield rows of one length, the length, and the number of their key."""
    for index, frames in enumerate(buckets):
        rows = np.flatnonzero(bucket == index).astype(np.int32)
        for start in range(0, rows.size, ROWS):
            # start is 0 or beyond every index
            yield rows[start : start + ROWS], frames, index + start
