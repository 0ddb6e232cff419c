"""The Python interface for conversations: utterances are completed from their neighbours, too.

imputer = mmdjax.Imputer.load("runs/gsdnet_synthetic")
about = {"conversation": ["a", "a", "b"], "speaker": ["Ann", "Bob", "Ann"]}
filled = imputer.impute({"language": x, "acoustic": y, "vision": None}, draws=8, **about)
found = imputer.predict({"language": x, "acoustic": y, "vision": None}, **about)
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import numpy as np

from mmdjax.data.conversations import positions_of, speakers_of
from mmdjax.data.formats.lazy import one_line
from mmdjax.data.formats.values import text
from mmdjax.errors import UserError, choice
from mmdjax.serving import bundle, graph_path, inputs
from mmdjax.serving.graph_path import GraphParameters, GraphPath
from mmdjax.serving.imputer import Imputed, Imputer, Predicted, imputed
from mmdjax.serving.interval import LEVELS


class PredictedClasses(NamedTuple):
    """Of N utterances.

    Attributes:
      mean: (N, classes) probabilities, averaged over draws. within: (N, classes) bool, the classes
        that the level asks for; the most probable one is always among them. spread: (N,) root mean
        square over classes of the standard deviation over draws, NaN with a single one. draws: (N,
        K, classes).
    """

    mean: np.ndarray
    within: np.ndarray
    spread: np.ndarray
    draws: np.ndarray


class Talk(NamedTuple):
    """Utterances of conversations; all (N,).

    Attributes:
      conversation: 0, 1, ... in the order of first appearance. names: of these.
      speaker: int32 within a conversation. position: float32.
    """

    conversation: np.ndarray
    names: list[str]
    speaker: np.ndarray
    position: np.ndarray

    def table(self, longest: int) -> list[np.ndarray]:
        """Each conversation's rows by position.

        Raises:
          UserError: it has more than `longest`.
        """
        order = np.lexsort((self.position, self.conversation))
        rows = np.split(order, np.cumsum(np.bincount(self.conversation))[:-1])
        for name, own in zip(self.names, rows, strict=True):
            if len(own) > longest:
                raise UserError(
                    f"conversation {name!r} has {len(own)} utterances; allowed: at most {longest}, "
                    "the last of the model's config.data.length_buckets"
                )
        return rows


def read_talk(rows: int, conversation, speaker=None, position=None) -> Talk:
    """Checked and numbered.

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


def _names(what: str, column, rows: int) -> np.ndarray:
    """(N,) str of words or numbers; of no NaN."""
    items = column.tolist() if isinstance(column, np.ndarray) else list(column)
    found = [text(item) for item in items]
    if len(found) != rows:
        raise UserError(f"{what}: {len(found)} of them; allowed: {rows}, one an utterance")
    for row, (one, item) in enumerate(zip(found, items, strict=True)):
        if one is None or (one == "nan" and not isinstance(item, str)):
            given = one_line(item, 60)
            raise UserError(f"{what} of utterance {row} is {given}; allowed: a name or a number")
    return np.array(found, str)


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


@functools.cache
def _program(route: GraphPath):
    """Jitted answer; equal systems share it."""
    answer = functools.partial(graph_path.answer, route)
    return jax.jit(answer, static_argnames=("draws", "level", "whole"))


class ConversationImputer(Imputer):
    """As `Imputer`, of a model of conversations (GSDNet)."""

    of_conversations = True

    @property
    def longest(self) -> int:
        """Utterances of a conversation."""
        return self.config.data.length_buckets[-1]

    def _use(self, found: bundle.Bundle) -> None:
        about, arrays = found
        self.signature = about
        self.modalities = tuple(
            inputs.Modality(m["name"], m["key"], m["frames"], m["channels"])
            for m in about["modalities"]
        )
        names = tuple(m.name for m in self.modalities)
        self.route = graph_path.path_of(self.config, names)
        self.parameters = jax.device_put(GraphParameters(**arrays))
        self._answer = _program(self.route)

    def fit(
        self,
        features,
        labels,
        workdir=None,
        validation: float = 0.2,
        seed: int = 0,
        *,
        conversation=None,
        speaker=None,
        position=None,
    ) -> ConversationImputer:
        """See `Imputer.fit`; whole conversations are held out. labels: (N,) sentiment, or classes.

        Args:
          conversation, speaker, position: see `read_talk`.
        """
        from mmdjax.serving.fit import train_conversations

        about = (conversation, speaker, position)
        settings = (workdir, validation, seed)
        self._use(train_conversations(self.config, features, labels, about, *settings))
        return self

    def impute(
        self,
        features,
        observed=None,
        draws: int = 1,
        seed: int = 0,
        *,
        conversation=None,
        speaker=None,
        position=None,
    ) -> Imputed:
        """See `Imputer.impute`; an utterance has one frame, T_m = 1.

        Args:
          conversation, speaker, position: see `read_talk`. Draws of a conversation depend on these,
            the seed and its own values alone.
        """
        about = (conversation, speaker, position)
        found = self._answered(features, observed, draws, seed, LEVELS[0], about, whole=True)
        return imputed(found)

    def predict(
        self,
        features,
        observed=None,
        draws: int | None = None,
        seed: int = 0,
        level: float = 0.9,
        *,
        conversation=None,
        speaker=None,
        position=None,
    ) -> Predicted | PredictedClasses:
        """See `Imputer.predict` and `impute`; `PredictedClasses` where labels are classes."""
        choice("level", level, LEVELS)
        draws = self.signature.get("draws") if draws is None else draws
        about = (conversation, speaker, position)
        found = self._answered(features, observed, draws, seed, level, about, whole=False)
        kind = PredictedClasses if self.config.data.classes else Predicted
        return kind(**{name: found[name] for name in kind._fields})

    def _answered(
        self, features, observed, draws: int, seed: int, level: float, about, whole: bool
    ) -> dict:
        """`graph_path.answer` to all utterances, (N, ...)."""
        self._check(draws, seed)
        given = inputs.read(self.modalities, features, observed)
        values = {}
        for m, x in given.features.items():
            # As of sequences: an utterance of zeros is missing.
            values[m] = np.where((x[:, 0] == 0).all(-1, keepdims=True), np.float32(np.nan), x[:, 0])
        talk = read_talk(len(given), *about)
        buckets, tables = self.config.data.length_buckets, {}
        for rows in talk.table(self.longest):
            tables.setdefault(buckets[np.searchsorted(buckets, len(rows))], []).append(rows)
        size, parts, order = max(1, self.batch // draws), [], []
        settings = {"draws": draws, "level": level, "whole": whole}
        for count, found in tables.items():
            place = np.full((len(found), count), -1)
            for row, own in zip(place, found, strict=True):
                row[: len(own)] = own
            valid = place >= 0
            spread = functools.partial(_spread, place)
            columns = ({m: spread(x) for m, x in values.items()}, spread(talk.position))
            columns = (*columns, spread(talk.speaker), valid)

            for start in range(0, len(found), size):
                rows = np.arange(start, min(start + size, len(found)))
                filled = np.resize(rows, size)
                given = jax.tree.map(lambda a, at=filled: a[at], columns)
                made = self._answer(self.parameters, given, np.uint32(seed), **settings)
                # Padding goes at once: of short conversations it is most of what is there.
                kept = valid[rows]
                parts.append(jax.tree.map(lambda a, k=kept: np.asarray(a)[: len(k)][k], made))
                order.append(place[rows][kept])
        back = np.argsort(np.concatenate(order))
        found = jax.tree.map(lambda *a: np.concatenate(a)[back], *parts)
        if not whole:
            return found
        found["features"] = {m: x[:, :, None] for m, x in found["features"].items()}
        found["drawn"] = {m: x[:, None] for m, x in found["drawn"].items()}
        found["exists"] = {m: np.ones_like(x) for m, x in found["drawn"].items()}
        return found


def _spread(place: np.ndarray, a: np.ndarray) -> np.ndarray:
    """(N, ...) -> (G, n, ...), 0 where there is no utterance."""
    mask = (place >= 0).reshape(*place.shape, *[1] * (a.ndim - 1))
    return np.where(mask, a[place], np.zeros((), a.dtype))
