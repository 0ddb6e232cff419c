"""One data set as methods see it: its splits, its labels, and views that methods share."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from mmdjax.data import moments, stored
from mmdjax.data.missing.patterns import patterns
from mmdjax.types import Batch, Observed

# A channel that is constant over the training split carries nothing: it becomes zero, not noise.
SMALLEST_STD = 1e-6
# Standardised features beyond this many deviations are clipped: one broken frame of openSMILE
# lies 50 deviations out and would otherwise rule a convolution's output.
LARGEST_DEVIATION = 10.0


class Optimum(NamedTuple):
    """The exact answer on synthetic data, under Q conditions.

    Attributes:
      prediction: (Q, N, ...), in the shape of the task's `read`.
      features: modality -> (Q, N, T_m, C_m), the conditional mean of what is hidden, in the file's
        units; None where it is not known.
    """

    prediction: np.ndarray
    features: Mapping[str, np.ndarray] | None


class Dataset:
    """Splits with a task; views of them are computed once and shared by all methods.

    Attributes:
      splits: 'train', 'valid' and, where something is to be evaluated, 'test' -> `Batch`, in the
        file's units.
      task: of `mmdjax.tasks`; what a label is.
      content: names the data, wherever the file stands.
      optimum: (batch, `Observed`, alone) -> `Optimum`, the exact answer on synthetic data; None on
        real data. `alone`: from each utterance by itself, where conversations tell more.
      patterns: (P, M) availability patterns, the complete one last.
    """

    def __init__(
        self,
        splits: Mapping[str, Batch],
        task: Any,
        content: str,
        optimum: Callable[[Batch, Observed, bool], Optimum] | None = None,
    ) -> None:
        self.splits, self.task, self.content, self.optimum = dict(splits), task, content, optimum
        self.modalities = splits["train"].modalities
        self.patterns = patterns(len(self.modalities))
        self._shared: dict[Hashable, object] = {}

    def shared(self, key: Hashable, make: Callable[[], object]) -> Any:
        """Return what `make` returned for this key the first time; equal methods share it."""
        if key not in self._shared:
            self._shared[key] = make()
        return self._shared[key]

    @functools.cached_property
    def scaling(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Modality -> (mean, scale) (C_m): standardised is (x - mean) scale."""
        return scaling(self.splits["train"])

    @functools.cached_property
    def standardised(self) -> dict[str, Batch]:
        """The splits with zero mean and unit deviation per channel of the training split."""
        return standardise(self.splits)

    @functools.cached_property
    def picked_on_test(self) -> Dataset:
        """The same data with the test split for validation, too: what picks its epoch there is
        flattered, see `Evaluation.as_published`."""
        splits = self.splits | {"valid": self.splits["test"]}
        return Dataset(splits, self.task, self.content, self.optimum)

    @property
    def pooled(self) -> Dataset:
        """The same utterances with one vector a modality: the mean over frames that exist."""
        return self.resampled(1)

    def resampled(self, frames: int) -> Dataset:
        """Return the same utterances with so many frames a modality, see `segments`."""
        features = self.splits["train"].features
        if frames == 1 and all(x.shape[1] == 1 for x in features.values()):
            return self

        def make() -> Dataset:
            splits = {name: resampled(b, frames) for name, b in self.splits.items()}
            return Dataset(splits, self.task, "")

        return self.shared(("resampled", frames), make)

    def pooled_few(self, most: int) -> Dataset:
        """Return `pooled`, of a training split that is not in memory at most so many utterances,
        evenly spaced."""
        train = self.pooled.splits["train"]
        if not stored.is_stored(train):
            return self.pooled
        few = stored.read(train, stored.evenly(len(train), most))
        return Dataset(self.pooled.splits | {"train": few}, self.task, "")


def resampled(batch: Batch, frames: int) -> Batch:
    """Return the utterances with so many frames a modality, see `segments`."""

    def of_rows(batch: Batch, rows: np.ndarray) -> Batch:
        features, valid = {}, {}
        for m, x in batch.features.items():
            exists = batch.valid[m]
            last = exists.shape[1] - np.argmax(exists[:, ::-1], axis=1)
            x, some = segments(x, exists, np.where(exists.any(1), last, 0), frames)
            features[m], valid[m] = x.astype(np.float32), some
        return dataclasses.replace(batch, features=features, valid=valid, known={})

    return stored.applied(of_rows, batch)


def segments(x: Any, known: Any, length: Any, frames: int) -> tuple[Any, Any]:
    """Return the means over equal parts of each utterance, one part a frame; of an utterance
    that is shorter, frames are repeated. One frame is the mean over all.

    Args:
      x: (N, T, C), numpy or jax. known: (N, T) bool, frames that are averaged. length: (N,).

    Returns:
      (N, frames, C), 0 where no frame of a part is known; (N, frames) bool, where some is.
    """
    part, time = np.arange(frames), np.arange(x.shape[1])
    start = part * length[:, None] // frames
    end = ((part + 1) * length[:, None] // frames).clip(start + 1)
    inside = (time >= start[..., None]) & (time < end[..., None]) & known[:, None]
    count = inside.sum(-1)
    if isinstance(x, np.ndarray):
        total = inside.astype(x.dtype) @ np.where(known[..., None], x, 0)
    else:  # accelerators round the factors of a product otherwise, and features may be large
        x = jnp.where(known[..., None], x, 0)
        total = jnp.matmul(inside.astype(x.dtype), x, precision="highest")
    return total / count.clip(1)[..., None], count > 0


def scaling(train: Batch) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return modality -> (mean, scale) (C_m) of valid frames: standardised is (x - mean) scale."""
    result = {}
    for name, (mean, std) in _means_and_deviations(train):
        scale = np.where(std > SMALLEST_STD, 1 / np.maximum(std, SMALLEST_STD), 0.0)
        result[name] = (mean, scale)
    return result


def _means_and_deviations(train: Batch) -> Iterator[tuple[str, tuple[np.ndarray, np.ndarray]]]:
    if stored.is_stored(train):

        def frames(rows: np.ndarray) -> dict[str, np.ndarray]:
            block = train.at(rows)
            return {name: x[block.valid[name]] for name, x in block.features.items()}

        for name, found in moments.of_blocks(len(train), frames).items():
            yield name, (found.mean, found.deviation)
        return
    for name in train.modalities:
        frames = train.features[name][train.valid[name]].astype(np.float64)
        yield name, (frames.mean(0), frames.std(0))


def standardise(splits: Mapping[str, Batch]) -> dict[str, Batch]:
    """Return zero mean and unit deviation per channel over the training split's valid frames.

    Padding becomes zero; values beyond `LARGEST_DEVIATION` are clipped.
    """
    scales = scaling(splits["train"])

    def of_rows(batch: Batch, rows: np.ndarray) -> Batch:
        features = {}
        for name, (mean, scale) in scales.items():
            x = ((batch.features[name] - mean) * scale).clip(-LARGEST_DEVIATION, LARGEST_DEVIATION)
            x = np.where(batch.valid[name][..., None], x, 0.0)
            features[name] = x.astype(np.float32)
        return dataclasses.replace(batch, features=features)

    return {split: stored.applied(of_rows, batch) for split, batch in splits.items()}
