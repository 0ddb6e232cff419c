"""Conversations: utterances with speakers and positions, one vector a modality.

Kept flat, one row an utterance; `methods/graph/conversations.py` makes the (G, N) arrays that
networks read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

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


def batch_of(conversations: Conversations) -> Batch:
    """Return the utterances with one frame a modality, and where they stand in conversations."""
    features = {name: x[:, None] for name, x in conversations.features.items()}
    valid = {name: np.ones(x.shape[:2], bool) for name, x in features.items()}
    talk = Talk(conversations.conversation, conversations.position, conversations.speaker)
    return Batch(features, valid, conversations.label, conversations.id, talk)


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
