"""Rows of a request: utterances or conversations, those that are alike next to each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from mmdjax.data.conversations import positions_of, speakers_of
from mmdjax.data.formats.lazy import one_line
from mmdjax.data.formats.values import text
from mmdjax.errors import UserError, require
from mmdjax.methods.served import Encoded, Route
from mmdjax.serving.inputs import Given

BESIDE = ("speaker", "position")  # what conversations have beside features
TRAINED_WITH = "at most {}, as the model was trained with"


class Talk(NamedTuple):
    """Where each of N utterances stands; all (N,).

    Attributes:
      conversation: 0, 1, ... in the order of first appearance. names: of these.
      speaker: int32, numbered within a conversation.
      position: float32.
    """

    conversation: np.ndarray
    names: list[str]
    speaker: np.ndarray
    position: np.ndarray

    def table(self, longest: int) -> list[np.ndarray]:
        """Return the utterances of each conversation, by position.

        Raises:
          UserError: one has more than `longest`.
        """
        order = np.lexsort((self.position, self.conversation))
        rows = np.split(order, np.cumsum(np.bincount(self.conversation))[:-1])
        for name, members in zip(self.names, rows, strict=True):
            problem = f"conversation {name!r} has {len(members)} utterances"
            require(len(members) <= longest, problem, TRAINED_WITH.format(longest))
        return rows


class Rows(NamedTuple):
    """Rows that are encoded with arrays of one shape.

    Attributes:
      features, said, beside: as `Route.encode` takes them.
      members: (R,) the utterance that a row is, or (R, F) those of a conversation, -1 for padding.
    """

    features: dict[str, np.ndarray]
    said: dict[str, np.ndarray]
    beside: dict[str, np.ndarray]
    members: np.ndarray


def groups(given: Given, talk: Talk | None, lengths: Sequence[int]) -> Iterator[Rows]:
    """Yield all utterances; with `talk` conversations of similar length, padded to the shortest of
    `lengths` that holds them.

    Raises:
      UserError: a conversation is longer than all of them.
    """
    if talk is None:
        yield Rows(given.features, given.said, {}, np.arange(len(given)))
        return
    # As of sequences: an utterance of zeros is missing.
    values = {
        m: np.where((x[:, 0] == 0).all(-1, keepdims=True), np.float32(np.nan), x[:, 0])
        for m, x in given.features.items()
    }
    tables: dict[int, list[np.ndarray]] = {}
    for members in talk.table(lengths[-1]):
        tables.setdefault(lengths[np.searchsorted(lengths, len(members))], []).append(members)
    for length, conversations in tables.items():
        place = np.full((len(conversations), length), -1)
        for row, members in zip(place, conversations, strict=True):
            row[: len(members)] = members
        beside = {name: _spread(place, getattr(talk, name)) for name in BESIDE}
        beside["valid"] = place >= 0
        yield Rows({m: _spread(place, x) for m, x in values.items()}, {}, beside, place)


def _spread(place: np.ndarray, a: np.ndarray) -> np.ndarray:
    """Return a (N, ...) as (G, F, ...), 0 where there is no utterance."""
    mask = (place >= 0).reshape(*place.shape, *[1] * (a.ndim - 1))
    return np.where(mask, a[place], np.zeros((), a.dtype))


def alike(
    route: Route, encoded: Encoded, features, lengths: Sequence[int], whole: bool
) -> Iterator[tuple[np.ndarray, tuple]]:
    """Yield rows of similar length, those that lack the same next to each other.

    What no row of a call misses is not drawn in it.

    Args:
      lengths: to which rows are cut, the longest last.
      whole: whether completed features are asked for.

    Returns:
      (rows, arrays), as `in_calls` takes them; arrays are the first and the fourth argument of
      `Route.answer` for all rows, cut.
    """
    bucket = np.searchsorted(lengths, encoded.frames)
    for index, frames in enumerate(lengths):
        chosen = np.flatnonzero(bucket == index)
        chosen = chosen[np.argsort(encoded.code[chosen], kind="stable")]
        if chosen.size:
            short, cut = route.cut(encoded.rows, features, frames)
            yield chosen, (short, (cut, encoded.lengths) if whole else None)


def in_calls(function: Callable, arrays, chosen: np.ndarray, size: int, exists=None):
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


def as_frames(answer: dict[str, Any]) -> dict[str, Any]:
    """Return `Route.answer` about U utterances of conversations, (U, ...) for (R, F, ...), as one
    about utterances of one frame."""
    for name, axis in {"features": 2, "drawn": 1, "exists": 1}.items():
        if name in answer:
            answer[name] = {m: np.expand_dims(a, axis) for m, a in answer[name].items()}
    return answer


def read_talk(rows: int, conversation, speaker=None, position=None) -> Talk:
    """Check and number where utterances stand in conversations.

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
    numbers = {name: number for number, name in enumerate(dict.fromkeys(named.tolist()))}
    code = np.array([numbers[name] for name in named.tolist()], int)
    where = positions_of(named) if position is None else _positions(position, rows, code)
    return Talk(code, list(numbers), speakers_of(named, speakers), where)


def _names(title: str, column, rows: int) -> np.ndarray:
    """Return (N,) str of words or numbers, none of them NaN."""
    items = column.tolist() if isinstance(column, np.ndarray) else list(column)
    names = [text(item) for item in items]
    require(len(names) == rows, f"{title}: {len(names)} of them", f"{rows}, one an utterance")
    for row, (name, item) in enumerate(zip(names, items, strict=True)):
        if name is None or (name == "nan" and not isinstance(item, str)):
            problem = f"{title} of utterance {row} is {one_line(item, 60)}"
            raise UserError(f"{problem}; allowed: a name or a number")
    return np.array(names, str)


def _positions(column, rows: int, code: np.ndarray) -> np.ndarray:
    """Return (N,) float32; code: (N,) numbers of conversations."""
    try:
        exact = np.asarray(column, np.float64)
    except (TypeError, ValueError):
        raise UserError("position is not made of numbers; allowed: (N,) numbers") from None
    shape = exact.shape
    require(shape == (rows,), f"position has shape {shape}", f"({rows},), one an utterance")
    with np.errstate(over="ignore"):
        where = exact.astype(np.float32)
    order = np.lexsort((exact, code))
    same = (np.diff(code[order]) == 0) & (np.diff(exact[order]) != 0)
    require(
        np.isfinite(where).all() and not (same & (np.diff(where[order]) == 0)).any(),
        "position holds numbers that are not finite, or differ by less than float32 tells",
        "finite numbers, such as from the beginning of the conversation",
    )
    return where
