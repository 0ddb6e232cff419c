"""Synthetic splits are drawn block by block, with the numbers of splits that are drawn at once."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mmdjax.data.sources.synthetic_labels import STREAM
from mmdjax.data.stored import FILE_ROWS
from mmdjax.types import Batch

if TYPE_CHECKING:
    from mmdjax.data.sources.synthetic import Law


class Generators(NamedTuple):
    """Of a split: components and noise of the features, emotions and noise of the labels.

    One seed's numbers serve all components first, then all noise: two generators, so that a part
    of the split takes its share of both.
    """

    components: np.random.Generator
    noise: np.random.Generator
    emotions: np.random.Generator
    label_noise: np.random.Generator

    @classmethod
    def of(cls, seed: int, count: int) -> Generators:
        made = []
        for words in (seed, [seed, STREAM]):
            first, second = np.random.default_rng(words), np.random.default_rng(words)
            second.bit_generator.advance(count)  # a uniform number takes one step
            made += [first, second]
        return cls(*made)


class Parts:
    """A split that is drawn in parts, in order; a part that was drawn may be drawn again."""

    def __init__(self, law: Law, count: int, seed: int, prefix: str, labels: str) -> None:
        self._law, self._about = law, (prefix, labels)
        self._rows = [range(count)[i : i + FILE_ROWS] for i in range(0, count, FILE_ROWS)]
        self._before = [Generators.of(seed, count)]  # of each part, as far as they are known

    def all(self) -> list[Callable[[], Batch]]:
        return [functools.partial(self._part, index) for index in range(len(self._rows))]

    def _part(self, index: int) -> Batch:
        generators = copy.deepcopy(self._before[index])
        batch = self._law.part(self._rows[index], generators, *self._about)
        self._before[index + 1 :] = [generators]
        return batch
