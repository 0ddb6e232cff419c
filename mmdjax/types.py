"""The shape vocabulary, and the batch that travels through the program.

| name       | meaning                                             |
| ---------- | --------------------------------------------------- |
| B, N       | examples in a batch, in a split                     |
| M          | modalities                                          |
| T_m, C_m   | frames and channels of modality m, as in the file   |
| T, D       | frames and channels of the latents (all modalities) |
| K          | draws per missing item                              |
| P, Q       | availability patterns, conditions                   |
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

Params = Any  # a pytree of parameters


class Talk(NamedTuple):
    """Where each of N utterances stands in a conversation.

    Attributes:
      conversation: (N,) str; utterances of one conversation stand together, in order.
      position: (N,) float32 within the conversation.
      speaker: (N,) int32, numbered within the conversation.
    """

    conversation: np.ndarray
    position: np.ndarray
    speaker: np.ndarray


@dataclasses.dataclass(frozen=True)
class Batch:
    """Utterances described by several modalities.

    Attributes:
      features: modality -> (N, T_m, C_m) float32, channel last.
      valid: modality -> (N, T_m) bool; True where the frame exists (is not padding) and is known.
        An utterance without such a frame lacks the modality.
      label: (N,) float32, (N,) int class or (N, outputs) float32, as `mmdjax.tasks` reads it; NaN
        where an utterance has none.
      id: (N,) str, the utterance's name in its file.
      talk: the conversations that the utterances belong to; None where they stand alone.
      classes: the names of the classes that labels number, where the source knows them.
      known: modality -> (N, T_m, C_m) bool, the entries that were given, of modalities in which
        frames lack some of theirs (`mmdjax.data.entries`).
    """

    features: Mapping[str, np.ndarray]
    valid: Mapping[str, np.ndarray]
    label: np.ndarray
    id: np.ndarray
    talk: Talk | None = None
    classes: tuple[str, ...] = ()
    known: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.label)

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(self.features)

    @property
    def present(self) -> np.ndarray:
        """(N, M) bool: the utterance has something of the modality."""
        return np.stack([v.any(1) for v in self.valid.values()], axis=1)

    def at(self, rows: np.ndarray) -> Batch:
        """Return the utterances at `rows`."""
        features, valid = ({m: a[rows] for m, a in t.items()} for t in (self.features, self.valid))
        talk = self.talk and Talk(*(a[rows] for a in self.talk))
        known = {m: a[rows] for m, a in self.known.items()}
        return Batch(features, valid, self.label[rows], self.id[rows], talk, self.classes, known)


def hidden(pattern: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Return what a pattern shows of utterances, (..., M) bool: it hides more, and adds nothing.

    An utterance that has nothing of what the pattern shows stays as it is; whoever measures leaves
    it out.

    Args:
      pattern, present: (..., M) bool, numpy or jax, broadcast against each other.
    """
    shown = pattern & present
    return present.__array_namespace__().where(shown.any(-1, keepdims=True), shown, present)


def known_labels(label: np.ndarray) -> np.ndarray:
    """Return (N,) bool: the label (N, ...) is known; of several numbers, all are."""
    return ~np.isnan(label).reshape(len(label), -1).any(1)


class Observed(NamedTuple):
    """Which data of N utterances a model is given, under Q conditions.

    Attributes:
      modalities: (Q, N, M) bool; something of the modality is given.
      frames: modality -> (Q, N, T_m) bool, the frames that are given; None where every modality is
        given or hidden as a whole.
    """

    modalities: np.ndarray
    frames: Mapping[str, np.ndarray] | None = None

    @property
    def everything(self) -> bool:
        """Whether nothing is hidden under any condition."""
        return self.frames is None and bool(self.modalities.all())

    def of_frames(self, valid: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return modality -> (Q, N, T_m) bool of the frames that exist and are given."""
        if self.frames is not None:
            return dict(self.frames)
        return {m: valid[m][None] & self.modalities[:, :, i, None] for i, m in enumerate(valid)}

    @classmethod
    def of_patterns(cls, patterns: np.ndarray, present: np.ndarray) -> Observed:
        """Return availability patterns (Q, M) as conditions on utterances of which (N, M) is there.

        See `hidden`.
        """
        return cls(hidden(patterns[:, None], present))


class Latents(NamedTuple):
    """What the frozen encoders make of a batch: everything after them works on this.

    Attributes:
      x: (N, M, T, D) float32, zero where `valid` is False.
      valid: (N, M, T) bool; the latent frame rests on at least one frame that exists.
      label: (N, ...), see `Batch`.
    """

    x: np.ndarray
    valid: np.ndarray
    label: np.ndarray

    @property
    def present(self) -> np.ndarray:
        """(N, M) bool: the utterance has something of the modality."""
        return self.valid.any(-1)
