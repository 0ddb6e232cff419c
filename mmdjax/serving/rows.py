"""Rows of a request: utterances or conversations, those that are alike next to each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mmdjax.data.conversations import positions_of, speakers_of
from mmdjax.data.formats.lazy import one_line
from mmdjax.data.formats.values import text
from mmdjax.errors import UserError, require
from mmdjax.methods.served import Encoded, Route
from mmdjax.serving.inputs import Given
from mmdjax.types import Talk

BESIDE = ("speaker", "position")  # what conversations have beside features
TRAINED_WITH = "at most {}, as the model was trained with"


def groups(given: Given, talk: Talk | None, lengths: Sequence[int]) -> Iterator[tuple]:
    """Yield (columns, members) of rows that are encoded with arrays of one shape: utterances, or
    with `talk` conversations, padded to the shortest of `lengths` that holds them.

    Columns are features, said and beside, as `Route.encode` takes them; members are (R,) the
    utterance that a row is, or (R, F) those of a conversation, -1 for padding.

    Raises:
      UserError: a conversation is longer than all of them.
    """
    if talk is None:
        yield (given.features, given.said, {}), np.arange(len(given))
        return
    # As of sequences: an utterance of zeros is missing.
    values = {
        m: np.where((x[:, 0] == 0).all(-1, keepdims=True), np.float32(np.nan), x[:, 0])
        for m, x in given.features.items()
    }
    tables: dict[int, list[np.ndarray]] = {}
    names, code, counts = np.unique(talk.conversation, return_inverse=True, return_counts=True)
    order = np.lexsort((talk.position, code))
    conversations = np.split(order, np.cumsum(counts)[:-1])
    for name, members in zip(names.tolist(), conversations, strict=True):
        count, most = len(members), TRAINED_WITH.format(lengths[-1])
        require(count <= lengths[-1], f"conversation {name!r} has {count} utterances", most)
        length = lengths[np.searchsorted(lengths, count)]
        padded = np.pad(members, (0, length - count), constant_values=-1)
        tables.setdefault(length, []).append(padded)
    for place in map(np.stack, tables.values()):
        beside = {name: _spread(place, getattr(talk, name)) for name in BESIDE}
        beside["valid"] = place >= 0
        yield ({m: _spread(place, x) for m, x in values.items()}, {}, beside), place


def _spread(place: np.ndarray, a: np.ndarray) -> np.ndarray:
    """Return a (N, ...) as (G, F, ...), 0 where there is no utterance."""
    mask = (place >= 0).reshape(*place.shape, *[1] * (a.ndim - 1))
    return np.where(mask, a[place], np.zeros((), a.dtype))


def alike(
    route: Route,
    encoded: Encoded,
    features: Mapping[str, np.ndarray],
    lengths: Sequence[int],
    whole: bool,
) -> Iterator[tuple[np.ndarray, tuple]]:
    """Yield (rows, arrays) of rows of similar length, as `in_calls` takes them; arrays are the rows
    and features of `Route.answer`, cut. Those that lack the same stand next to each other, as what
    no row of a call misses is not drawn in it.

    Args:
      lengths: to which rows are cut, the longest last.
      whole: whether completed features are asked for.
    """
    bucket = np.searchsorted(lengths, encoded.frames)
    for index, frames in enumerate(lengths):
        chosen = np.flatnonzero(bucket == index)
        chosen = chosen[np.argsort(encoded.code[chosen], kind="stable")]
        if chosen.size:
            short, cut = route.cut(encoded.rows, features, frames)
            yield chosen, (short, (cut, encoded.lengths) if whole else None)


def in_calls(
    function: Callable, arrays: Any, chosen: np.ndarray, size: int, exists: np.ndarray | None = None
) -> Any:
    """Return function over rows of a tuple of pytrees, `size` at a time; the last repeats some.

    Args:
      chosen: (R,) rows.
      exists: (N,) or (N, F) bool of all rows; results become (U, ...) of the entries that exist.
        They go call by call, since of short conversations most entries are padding.
    """
    parts = []
    for start in range(0, len(chosen), size):
        rows = chosen[start : start + size]
        padded, count = np.resize(rows, size), len(rows)
        result = function(*jax.tree.map(lambda a, at=padded: a[at], arrays))
        keep = slice(None) if exists is None else exists[rows]
        parts.append(jax.tree.map(lambda a, n=count, k=keep: np.asarray(a)[:n][k], result))
    return jax.tree.map(lambda *a: np.concatenate(a), *parts)


def read_talk(rows: int, conversation: Any, speaker: Any = None, position: Any = None) -> Talk:
    """Return where utterances stand in conversations; those of one may stand anywhere.

    Args:
      conversation: (N,) names; utterances of one name belong together, wherever they stand.
      speaker: (N,) names or numbers; by default one speaks throughout.
      position: (N,) numbers; by default the order in which they stand, and among utterances of one
        position it is that order.

    Raises:
      UserError: one of them is not as described.
    """
    why = "a name for each utterance, as the model completes utterances from their neighbours"
    require(conversation is not None, "conversation is missing", why)
    named = _names("conversation", conversation, rows)
    speakers = np.full(rows, "") if speaker is None else _names("speaker", speaker, rows)
    where = positions_of(named) if position is None else _positions(position, named)
    return Talk(named, where, speakers_of(named, speakers))


def _names(title: str, column: Any, rows: int) -> np.ndarray:
    """Return (N,) str of words or numbers, none of them NaN."""
    items = column.tolist() if isinstance(column, np.ndarray) else list(column)
    names = [text(item) for item in items]
    require(len(names) == rows, f"{title}: {len(names)} of them", f"{rows}, one an utterance")
    for row, (name, item) in enumerate(zip(names, items, strict=True)):
        if name is None or (name == "nan" and not isinstance(item, str)):
            problem = f"{title} of utterance {row} is {one_line(item, 60)}"
            raise UserError(f"{problem}; allowed: a name or a number")
    return np.array(names, str)


def _positions(column: Any, named: np.ndarray) -> np.ndarray:
    """Return (N,) float32; named: (N,) names of conversations."""
    try:
        exact = np.asarray(column, np.float64)
    except (TypeError, ValueError):
        raise UserError("position is not made of numbers; allowed: (N,) numbers") from None
    problem = f"position has shape {exact.shape}"
    require(exact.shape == named.shape, problem, f"({len(named)},), one an utterance")
    with np.errstate(over="ignore"):
        where = exact.astype(np.float32)
    order = np.lexsort((exact, named))
    same = (named[order][1:] == named[order][:-1]) & (np.diff(exact[order]) != 0)
    require(
        np.isfinite(where).all() and not (same & (np.diff(where[order]) == 0)).any(),
        "position holds numbers that are not finite, or differ by less than float32 tells",
        "finite numbers, such as from the beginning of the conversation",
    )
    return where
