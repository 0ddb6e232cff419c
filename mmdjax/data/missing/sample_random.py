"""Random numbers of samples: each a function of (seed, number of the sample, stream, place).

So what is decided with them depends neither on other samples, nor on their order, nor on padding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

WORD = np.uint64(0xFFFFFFFF)
OF_SAMPLE = 0  # stream of a sample's own numbers; modality m has stream m + 1


def philox(counter: Sequence, key: Sequence) -> list[np.ndarray]:
    """Return four random words for each counter: Philox4x32-10 (Salmon et al., 2011).

    numpy has it too, but one generator a sample is twenty times slower than all at once.

    Args:
      counter: four uint64 arrays of 32-bit words, of one shape. key: two words.
    """
    a, b, c, d = (np.asarray(word, np.uint64) for word in counter)
    first, second = (np.uint64(word) for word in key)
    half = np.uint64(32)
    for _ in range(10):
        left, right = a * np.uint64(0xD2511F53), c * np.uint64(0xCD9E8D57)
        a, b = (right >> half) ^ b ^ first, right & WORD
        c, d = (left >> half) ^ d ^ second, left & WORD
        first = (first + np.uint64(0x9E3779B9)) & WORD
        second = (second + np.uint64(0xBB67AE85)) & WORD
    return [a, b, c, d]


class Samples(NamedTuple):
    """The samples for which masks are drawn.

    Attributes:
      lengths: modality -> (N,) frames that exist.
      rows: (N,) numbers of the samples. seed: with a row's number, all of its randomness.
      label: (N,), or None.
    """

    lengths: Mapping[str, np.ndarray]
    rows: np.ndarray
    seed: int
    label: np.ndarray | None = None

    def uniform(self, stream: int, count: int) -> np.ndarray:
        """Return (N, count) numbers in (0, 1); the first ones are the same for any count."""
        rows = self.rows.astype(np.uint64)[:, None]
        blocks = np.arange(-(-count // 4), dtype=np.uint64)
        counter = np.broadcast_arrays(rows & WORD, rows >> np.uint64(32), np.uint64(stream), blocks)
        words = philox(counter, (self.seed & int(WORD), self.seed >> 32))
        words = np.stack(words, -1).reshape(len(rows), -1)[:, :count]
        return (words + 0.5) / 2**32

    def frames(self) -> dict[str, np.ndarray]:
        """Return modality -> (N, longest) bool, the frame exists."""
        return {m: np.arange(n.max(initial=0)) < n[:, None] for m, n in self.lengths.items()}

    def uniforms(self) -> dict[str, np.ndarray]:
        """Return modality -> (N, longest), a number for each frame."""
        exists = self.frames().items()
        return {m: self.uniform(i + 1, a.shape[1]) for i, (m, a) in enumerate(exists)}

    def any_frame(self) -> tuple[np.ndarray, np.ndarray]:
        """Choose one of each sample's frames: (N,) its modality's index, and (N,) its place."""
        ends = np.cumsum(np.stack([*self.lengths.values()], 1), 1)
        frame = (self.uniform(OF_SAMPLE, 2)[:, 1] * ends[:, -1]).astype(int)
        modality = (frame[:, None] >= ends).sum(1)
        starts = np.concatenate([np.zeros((len(ends), 1), int), ends], 1)
        return modality, frame - starts[np.arange(len(ends)), modality]
