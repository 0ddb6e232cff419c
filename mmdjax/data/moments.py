"""Mean and deviation of channels, from blocks of rows that are never in memory together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from mmdjax.data.stored import blocks
from mmdjax.runtime import processes


class Moments(NamedTuple):
    """Of C channels, in float64: how many frames, their mean, the sum of squares around it."""

    count: np.ndarray
    mean: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, frames: np.ndarray) -> Moments:
        """Return those of frames (F, C); F may be 0."""
        frames = frames.astype(np.float64)
        mean = frames.sum(0) / max(len(frames), 1)
        return cls(np.full(mean.shape, float(len(frames))), mean, ((frames - mean) ** 2).sum(0))

    def merged(self, other: Moments) -> Moments:
        """Return those of the frames of both (Chan et al. 1979)."""
        count, step = self.count + other.count, other.mean - self.mean
        share = other.count / np.maximum(count, 1)
        squares = self.squares + other.squares + step**2 * self.count * share
        return Moments(count, self.mean + step * share, squares)

    @property
    def deviation(self) -> np.ndarray:
        return np.sqrt(self.squares / np.maximum(self.count, 1))


def of_blocks(
    rows: int, frames: Callable[[np.ndarray], Mapping[str, np.ndarray]]
) -> dict[str, Moments]:
    """Return name -> `Moments` of all rows; of several processes each reads its share of them.

    Args:
      frames: indices (R,) -> name -> frames (F, C) of these rows.
    """
    parts, total = list(blocks(rows)), {}

    def of_block(index: int) -> dict[str, np.ndarray]:
        here = frames(np.arange(parts[index].start, parts[index].stop))
        # As words: an exchange between processes would round to 32 bits.
        return {name: np.stack(Moments.of(f)).view(np.uint32) for name, f in here.items()}

    for made in processes.dealt(len(parts), of_block):
        for name, words in made.items():
            block = Moments(*np.ascontiguousarray(words).view(np.float64))
            total[name] = total[name].merged(block) if name in total else block
    return total
