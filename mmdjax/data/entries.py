"""Frames of which some entries are missing: these are filled from what their utterance has.

Clinical series, and features of different extractors side by side, lack single numbers rather than
frames. A frame that has some number is observed; encoders read its other entries as their mean
given every number that the utterance has of the modality (`kriging`). Errors of completions are
learned from the numbers alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import numpy as np

from mmdjax.data import kriging, stored
from mmdjax.data.dataset import LARGEST_DEVIATION, SMALLEST_STD
from mmdjax.types import Batch

MOST_CHANNELS = 1024  # of a modality whose covariance is kept; of wider ones entries are the mean
BLOCK = 512  # utterances


def covariances(
    train: Batch, scaling: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> dict[str, kriging.Field]:
    """Return modality -> the covariance of its standardised entries over the training split.

    Args:
      scaling: modality -> (mean, scale) (C_m): standardised is (x - mean) scale.
    """
    if stored.is_stored(train):
        train = stored.read(train, stored.evenly(len(train), kriging.ROWS))
    fields = {}
    for m, x in train.features.items():
        if x.shape[2] > MOST_CHANNELS:
            continue
        known = known_entries(train, m)
        mean, scale = scaling[m]
        x = np.where(known, (x - mean) * scale, 0.0).clip(-LARGEST_DEVIATION, LARGEST_DEVIATION)
        fields[m] = kriging.fit(x, known)
    return fields


def known_entries(batch: Batch, m: str) -> np.ndarray:
    """Return (N, T_m, C_m) bool, or (N, T_m, 1) where no frame lacks a part of its numbers."""
    return batch.valid[m][..., None] if m not in batch.known else batch.known[m]


def filled(splits: Mapping[str, Batch]) -> dict[str, Batch]:
    """Return splits without NaN, and which entries of their features are `known`.

    Args:
      splits: with NaN where a frame that is valid lacks an entry.
    """
    train = splits["train"]
    on_disk = any(stored.is_stored(batch) for batch in splits.values())
    if not on_disk and not any(
        np.isnan(x).any() for batch in splits.values() for x in batch.features.values()
    ):
        return dict(splits)
    if stored.is_stored(train):
        train = stored.read(train, stored.evenly(len(train), kriging.ROWS))
    train = _with_known(train)
    scaling = {m: _scaling(x, known_entries(train, m)) for m, x in train.features.items()}
    fields = covariances(train, scaling)

    def of_rows(batch: Batch, rows: np.ndarray) -> Batch:
        batch, features = _with_known(batch), dict(batch.features)
        for m, known in batch.known.items():
            mean, scale = scaling[m]
            x = np.where(known, (features[m] - mean) * scale, 0.0)
            x = x.clip(-LARGEST_DEVIATION, LARGEST_DEVIATION).astype(np.float32)
            made = _means(fields[m], x, known) if m in fields else np.zeros_like(x)
            made = made / np.where(scale > 0, scale, 1) + mean
            made = np.where(batch.valid[m][..., None], made, 0.0)
            features[m] = np.where(known, features[m], made).astype(np.float32)
        known = {} if on_disk else batch.known
        return dataclasses.replace(batch, features=features, known=known)

    return {name: stored.applied(of_rows, batch) for name, batch in splits.items()}


def _with_known(batch: Batch) -> Batch:
    """Return the batch with `known` of the modalities that lack entries of some frame."""
    known = {}
    for m, x in batch.features.items():
        if (lacks := np.isnan(x)).any():
            known[m] = batch.valid[m][..., None] & ~lacks
    return dataclasses.replace(batch, known=known)


def _scaling(x: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and scale (C,) of known entries."""
    count = np.maximum(known.sum((0, 1)), 1)
    mean = np.where(known, x, 0.0).sum((0, 1), dtype=np.float64) / count
    square = np.where(known, (x - mean) ** 2, 0.0).sum((0, 1), dtype=np.float64) / count
    std = np.sqrt(square)
    return mean, np.where(std > SMALLEST_STD, 1 / np.maximum(std, SMALLEST_STD), 0.0)


def _means(field: kriging.Field, x: np.ndarray, known: np.ndarray) -> np.ndarray:
    compiled, parts = jax.jit(kriging.conditional_mean), []
    for start in range(0, len(x), BLOCK):
        rows = np.resize(np.arange(start, min(start + BLOCK, len(x))), min(BLOCK, len(x)))
        made = np.asarray(compiled(field, x[rows], known[rows]))
        parts.append(made[: len(x) - start])
    return np.concatenate(parts)
