"""The shape vocabulary, and the batch that travels through the program.

| name       | meaning                                             |
| ---------- | --------------------------------------------------- |
| B, N       | examples in a batch, in a split                     |
| M          | modalities                                          |
| T_m, C_m   | frames and channels of modality m, as in the file   |
| T, D       | frames and channels of the latents (all modalities) |
| K          | draws per missing item                              |
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np


@dataclasses.dataclass(frozen=True)
class Batch:
    """Utterances described by several modalities.

    Attributes:
      features: modality -> (N, T_m, C_m) float32, channel last.
      valid: modality -> (N, T_m) bool; True where the frame exists (is not padding).
      label: (N,) float32 sentiment in [-3, 3].
      id: (N,) str, the utterance's name in its file.
    """

    features: Mapping[str, np.ndarray]
    valid: Mapping[str, np.ndarray]
    label: np.ndarray
    id: np.ndarray

    def __len__(self) -> int:
        return len(self.label)

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(self.features)


class Latents(NamedTuple):
    """What the frozen encoders make of a batch: everything after them works on this.

    Attributes:
      x: (N, M, T, D) float32, zero where `valid` is False.
      valid: (N, M, T) bool; the latent frame rests on at least one frame that exists.
      label: (N,) float32.
    """

    x: np.ndarray
    valid: np.ndarray
    label: np.ndarray
