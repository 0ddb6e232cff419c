"""Conversations: utterances with speakers and positions, one vector a modality.

Kept flat, one row an utterance; `padded` makes the (G, N) arrays that networks read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mmdjax.errors import UserError
from mmdjax.types import Batch, Talk


@dataclasses.dataclass(frozen=True)
class Conversations:
    """Utterances of several conversations; those of one conversation stand together, in order.

    Attributes:
      features: modality -> (U, C_m) float32.
      label: (U,) float32: sentiment in [-3, 3], or a class.
      id, conversation: (U,) str.
      position: (U,) float32 in its conversation.
      speaker: (U,) int32, numbered within a conversation.
    """

    features: Mapping[str, np.ndarray]
    label: np.ndarray
    id: np.ndarray
    conversation: np.ndarray
    position: np.ndarray
    speaker: np.ndarray

    def __len__(self) -> int:
        return len(self.label)

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(self.features)

    def at(self, rows: np.ndarray) -> Conversations:
        """Some utterances, where they were."""
        features = {name: x[rows] for name, x in self.features.items()}
        about = (self.label, self.id, self.conversation, self.position, self.speaker)
        return Conversations(features, *(a[rows] for a in about))

    def rows(self) -> list[np.ndarray]:
        """The rows of each conversation."""
        starts = np.flatnonzero(self.conversation[1:] != self.conversation[:-1]) + 1
        return np.split(np.arange(len(self)), starts)


class Padded(NamedTuple):
    """G conversations of at most N utterances, 0 where there are none.

    Attributes:
      features: modality -> (G, N, C_m). valid: (G, N) bool.
      label, position: (G, N) float32. speaker: (G, N) int32.
      row: (G, N) int32 row in `Conversations`, -1 for padding.
    """

    features: dict[str, np.ndarray]
    valid: np.ndarray
    label: np.ndarray
    position: np.ndarray
    speaker: np.ndarray
    row: np.ndarray


def padded(conversations: Conversations, length: int) -> Padded:
    """All conversations, padded to `length` utterances.

    Raises:
      UserError: a conversation is longer.
    """
    rows = conversations.rows()
    row = np.full((len(rows), length), -1, np.int32)
    for place, found in zip(row, rows, strict=True):
        if len(found) > length:
            name = str(conversations.conversation[found[0]])
            raise UserError(
                f"conversation {name!r} has {len(found)} utterances; "
                f"allowed: at most {length}, the last of data.length_buckets"
            )
        place[: len(found)] = found
    valid = row >= 0

    def spread(a):
        mask = valid.reshape(valid.shape + (1,) * (a.ndim - 1))
        return np.where(mask, a[row], np.zeros((), a.dtype))

    about = (conversations.label, conversations.position, conversations.speaker)
    features = {name: spread(x) for name, x in conversations.features.items()}
    return Padded(features, valid, *(spread(a) for a in about), row)


def utterances(conversations: Conversations) -> Batch:
    """Every utterance by itself, with one frame a modality."""
    features = {name: x[:, None] for name, x in conversations.features.items()}
    valid = {name: np.ones(x.shape[:2], bool) for name, x in features.items()}
    return Batch(features, valid, conversations.label, conversations.id)


def batch_of(conversations: Conversations) -> Batch:
    """Return the utterances with one frame a modality, and where they stand in conversations."""
    where = Talk(conversations.conversation, conversations.position, conversations.speaker)
    return dataclasses.replace(utterances(conversations), talk=where)


def numbered(names: Sequence) -> list[int]:
    """0, 1, ... in the order of first appearance."""
    first: dict = {}
    return [first.setdefault(name, len(first)) for name in names]


def speakers_of(conversation: np.ndarray, names: np.ndarray) -> np.ndarray:
    """0, 1, ... within each conversation, in the order of first appearance."""
    known: dict = {}
    result = np.zeros(len(names), np.int32)
    for row, (one, name) in enumerate(zip(conversation.tolist(), names.tolist(), strict=True)):
        own = known.setdefault(one, {})
        result[row] = own.setdefault(name, len(own))
    return result


def positions_of(conversation: np.ndarray) -> np.ndarray:
    """0, 1, ... within each conversation, in the order of the file."""
    count: dict[str, int] = {}
    result = np.zeros(len(conversation), np.float32)
    for row, name in enumerate(conversation.tolist()):
        result[row] = count.get(name, 0)
        count[name] = count.get(name, 0) + 1
    return result
