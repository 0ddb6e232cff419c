"""Rows of a request: utterances by themselves, or grouped into the conversations they belong to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmdjax.data.conversations import positions_of, speakers_of
from mmdjax.data.formats.lazy import one_line
from mmdjax.data.formats.values import text
from mmdjax.errors import UserError
from mmdjax.serving.inputs import Given

BESIDE = ("speaker", "position")  # what conversations have beside features
# Of an answer, what features are about; the rest is about predictions.
OF_FEATURES = ("features", "drawn", "exists", "deviation")


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
            if len(members) > longest:
                raise UserError(
                    f"conversation {name!r} has {len(members)} utterances; allowed: at most "
                    f"{longest}, as the model was trained with"
                )
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


def of_utterances(given: Given) -> Iterator[Rows]:
    """Yield all utterances, each a row."""
    yield Rows(given.features, given.said, {}, np.arange(len(given)))


def of_conversations(given: Given, talk: Talk, lengths: Sequence[int]) -> Iterator[Rows]:
    """Yield conversations of similar length, padded to the shortest of `lengths` that holds them.

    Raises:
      UserError: one is longer than all of them.
    """
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
    """(N, ...) -> (G, F, ...), 0 where there is no utterance."""
    mask = (place >= 0).reshape(*place.shape, *[1] * (a.ndim - 1))
    return np.where(mask, a[place], np.zeros((), a.dtype))


def as_frames(answer: dict[str, Any]) -> dict[str, Any]:
    """Return the answer about U utterances of conversations as one about utterances of one frame.

    Args:
      answer: of `Route.answer`, with (U, ...) for (R, F, ...).
    """
    frames = {"features": 2, "drawn": 1, "exists": 1}  # the axis that is put in
    return {
        name: {m: np.expand_dims(a, frames[name]) for m, a in value.items()}
        if name in frames
        else value
        for name, value in answer.items()
    }


def read_talk(rows: int, conversation, speaker=None, position=None) -> Talk:
    """Check and number what is said of utterances.

    Args:
      conversation: (N,) names; utterances of one name belong together, wherever they stand.
      speaker: (N,) names or numbers; by default one speaks throughout.
      position: (N,) numbers; by default the order in which they stand, and among utterances of one
        position it is that order.

    Raises:
      UserError: one of them is not as described.
    """
    if conversation is None:
        raise UserError(
            "conversation is missing; allowed: a name for each utterance, as the model completes "
            "utterances from their neighbours"
        )
    named = _names("conversation", conversation, rows)
    speakers = np.full(rows, "") if speaker is None else _names("speaker", speaker, rows)
    names, first, code = np.unique(named, return_index=True, return_inverse=True)
    code = np.argsort(np.argsort(first))[code]
    names = names[np.argsort(first)].tolist()
    where = positions_of(named) if position is None else _positions(position, rows, code)
    return Talk(code, names, speakers_of(named, speakers), where)


def refuse_talk(method: str, **columns) -> None:
    """Raise `UserError` where a method that sees utterances one by one is told of conversations."""
    for name, column in columns.items():
        if column is not None:
            raise UserError(
                f"{name} is given, and a model of method {method!r} completes utterances one by "
                "one; allowed: features alone"
            )


def _names(what: str, column, rows: int) -> np.ndarray:
    """(N,) str of words or numbers; of no NaN."""
    items = column.tolist() if isinstance(column, np.ndarray) else list(column)
    names = [text(item) for item in items]
    if len(names) != rows:
        raise UserError(f"{what}: {len(names)} of them; allowed: {rows}, one an utterance")
    for row, (name, item) in enumerate(zip(names, items, strict=True)):
        if name is None or (name == "nan" and not isinstance(item, str)):
            given = one_line(item, 60)
            raise UserError(f"{what} of utterance {row} is {given}; allowed: a name or a number")
    return np.array(names, str)


def _positions(column, rows: int, code: np.ndarray) -> np.ndarray:
    """(N,) float32; code: of conversations."""
    try:
        exact = np.asarray(column, np.float64)
    except (TypeError, ValueError):
        raise UserError("position is not made of numbers; allowed: (N,) numbers") from None
    if exact.shape != (rows,):
        raise UserError(f"position has shape {exact.shape}; allowed: ({rows},), one an utterance")
    with np.errstate(over="ignore"):
        where = exact.astype(np.float32)
    order = np.lexsort((exact, code))
    same = (np.diff(code[order]) == 0) & (np.diff(exact[order]) != 0)
    if not np.isfinite(where).all() or (same & (np.diff(where[order]) == 0)).any():
        raise UserError(
            "position holds numbers that are not finite, or differ by less than float32 tells; "
            "allowed: finite numbers, such as from the beginning of the conversation"
        )
    return where


def in_order(modalities: Sequence[str], features, said):
    """Return conversations given as arrays of one kind, as `Route.encode` takes them; jax.

    Args:
      features: modality -> (R, F, C_m); 'speaker' and 'position' (R, F, 1), NaN for a speaker who
        speaks throughout, and for the order in which utterances stand. Zeros count as missing.
      said: as `features` (R,) int32, utterances that are given; -1: as many as there are.

    Returns:
      Features and `beside` in the order of position, utterances with nothing observed last, as
      padding; and (R, F) the utterance at each place.
    """
    x, exists = {}, False
    for m in modalities:
        count = features[m].shape[1]
        given = (jnp.arange(count) < said[m][:, None]) | (said[m][:, None] < 0)
        seen = given & ~jnp.isnan(features[m]).any(-1) & (features[m] != 0).any(-1)
        x[m], exists = jnp.where(seen[..., None], features[m], jnp.nan), exists | seen
    place = features["position"][..., 0]
    place = jnp.where(jnp.isnan(place), jnp.arange(count, dtype=jnp.float32), place)
    speaker = jnp.nan_to_num(features["speaker"][..., 0])
    place, speaker = (jnp.where(exists, a, 0.0) for a in (place, speaker))
    order = jnp.lexsort((place, ~exists))
    beside = {"position": place, "speaker": speaker, "valid": exists}
    x, beside = jax.tree.map(lambda a: _taken(a, order), (x, beside))
    return x, beside, order


def as_given(answer: dict[str, Any], order, exists) -> dict[str, Any]:
    """Return an answer about conversations in the order in which utterances were given; jax.

    Args:
      answer: of `Route.answer`. order: of `in_order`. exists: (R, F) bool, in that order.

    Returns:
      Predictions (R, F, ...), NaN or False where there is no utterance; 'features' (R, K, F, C_m).
    """
    back = jnp.argsort(order)
    answer, exists = jax.tree.map(lambda a: _taken(a, back), (answer, exists))
    for name in answer.keys() - set(OF_FEATURES):
        a = answer[name]
        nothing = False if a.dtype == bool else jnp.nan
        answer[name] = jnp.where(exists.reshape(*exists.shape, *[1] * (a.ndim - 2)), a, nothing)
    if "features" in answer:
        answer["features"] = {m: jnp.moveaxis(x, 2, 1) for m, x in answer["features"].items()}
    return answer


def _taken(a, order):
    return jnp.take_along_axis(a, order.reshape(*order.shape, *[1] * (a.ndim - 2)), axis=1)
