"""The compiled calls of a request: two programs a route, any number of rows, in any order."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np

from mmdjax.methods.served import Encoded, Route


@functools.cache
def programs(route: Route) -> tuple[Callable, Callable]:
    """Return jitted (encode, answer) of a route; equal systems share them.

    encode: (parameters, features, said, beside) -> `Encoded`. answer: (parameters, rows, given,
    seed, draws, level) -> see `Route.answer`.
    """

    def encode(parameters, features, said, beside):
        return route.encode(parameters, features, said, beside)

    def answer(parameters, encoded, given, seed, draws, level):
        return route.answer(parameters, encoded, seed, given, draws, level)

    return jax.jit(encode), jax.jit(answer, static_argnames=("draws", "level"))


def ask(answer: Callable, seed, whole: bool, encoded, features, lengths):
    """Call `answer` for rows, and for their features if `whole`."""
    return answer(encoded, (features, lengths) if whole else None, seed)


def alike(
    route: Route, encoded: Encoded, features, lengths: Sequence[int], whole: bool
) -> Iterator[tuple[np.ndarray, tuple]]:
    """Yield rows of similar length, those that lack the same next to each other.

    What no row of a call misses is not drawn in it.

    Args:
      lengths: to which rows are cut, the longest last.

    Returns:
      (rows, arrays), as `in_calls` and `ask` take them; arrays are those of all rows, cut.
    """
    bucket = np.searchsorted(lengths, encoded.frames)
    for index, frames in enumerate(lengths):
        chosen = np.flatnonzero(bucket == index)
        chosen = chosen[np.argsort(encoded.code[chosen], kind="stable")]
        if chosen.size:
            kept, cut = route.cut(encoded.rows, features, frames)
            yield chosen, (kept, cut if whole else None, encoded.lengths)


def in_calls(function: Callable, arrays, chosen: np.ndarray, size: int, valid=None):
    """Return function over rows of a tuple of pytrees, `size` at a time; the last repeats some.

    Args:
      chosen: (R,) rows.
      valid: (N, F) bool of all rows; results (R, F, ...) become (U, ...) of the valid entries. They
        go call by call, since of short conversations most entries are padding.
    """
    parts = []
    for start in range(0, len(chosen), size):
        here = chosen[start : start + size]
        padded, count = np.resize(here, size), len(here)
        result = function(*jax.tree.map(lambda a, at=padded: a[at], arrays))
        kept = slice(None) if valid is None else valid[here]
        parts.append(jax.tree.map(lambda a, n=count, k=kept: np.asarray(a)[:n][k], result))
    return jax.tree.map(lambda *a: np.concatenate(a), *parts)
