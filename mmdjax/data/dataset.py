"""One data set as methods see it: its splits, its labels, and views that methods share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Mapping
from typing import NamedTuple

import numpy as np

from mmdjax.data.missing.patterns import patterns
from mmdjax.types import Batch, Observed


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
        task,
        content: str,
        optimum: Callable[[Batch, Observed, bool], Optimum] | None = None,
    ):
        self.splits, self.task, self.content, self.optimum = dict(splits), task, content, optimum
        self.modalities = splits["train"].modalities
        self.patterns = patterns(len(self.modalities))
        self._shared: dict[Hashable, object] = {}

    def shared(self, key: Hashable, make: Callable[[], object]):
        """Return what `make` returned for this key the first time; equal methods share it."""
        if key not in self._shared:
            self._shared[key] = make()
        return self._shared[key]

    @functools.cached_property
    def scaling(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Modality -> (mean, scale) (C_m): standardised is (x - mean) scale."""
        from mmdjax.data.pipeline import scaling

        return scaling(self.splits["train"])

    @functools.cached_property
    def standardised(self) -> dict[str, Batch]:
        """The splits with zero mean and unit deviation per channel of the training split."""
        from mmdjax.data.pipeline import standardise

        return standardise(self.splits)

    @functools.cached_property
    def pooled(self) -> Dataset:
        """The same utterances with one vector a modality: the mean over frames that exist."""
        if all(x.shape[1] == 1 for x in self.splits["train"].features.values()):
            return self
        return Dataset({name: pooled(b) for name, b in self.splits.items()}, self.task, "")


def pooled(batch: Batch) -> Batch:
    """Return the utterances with the mean over valid frames as their only frame."""
    features = {}
    for m, x in batch.features.items():
        exists = batch.valid[m][..., None]
        total = np.where(exists, x, 0.0).sum(1, keepdims=True)
        features[m] = (total / np.maximum(exists.sum(1, keepdims=True), 1)).astype(np.float32)
    valid = {m: v.any(1, keepdims=True) for m, v in batch.valid.items()}
    return Batch(features, valid, batch.label, batch.id, batch.talk)
