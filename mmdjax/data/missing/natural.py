"""Training data that are incomplete by nature, as recordings are: made from complete ones."""

from __future__ import annotations

import dataclasses

import numpy as np

from mmdjax.data.missing.patterns import patterns
from mmdjax.data.stored import applied, taken
from mmdjax.types import Batch, known_labels

GAPS, LABELS = 11, 12  # random streams


def incomplete(batch: Batch, complete: float, seed: int) -> Batch:
    """Return utterances of which a share is complete, and the others have an incomplete pattern.

    Patterns are drawn uniformly. A larger share keeps the gaps of those that stay incomplete.

    Args:
      complete: in [0, 1].
    """
    rng = np.random.default_rng([seed, GAPS])
    size, incomplete_ones = len(batch), patterns(len(batch.modalities))[:-1]
    order, chosen = rng.permutation(size), rng.integers(len(incomplete_ones), size=size)
    lacking = order[round(complete * size) :]
    shown = batch.present
    shown[lacking] &= incomplete_ones[chosen[lacking]]

    def of_rows(batch: Batch, rows: np.ndarray) -> Batch:
        features, valid = dict(batch.features), dict(batch.valid)
        for m, keep in zip(batch.modalities, shown[rows].T, strict=True):
            valid[m] = valid[m] & keep[:, None]
            features[m] = np.where(valid[m][..., None], features[m], np.float32(0))
        return dataclasses.replace(batch, features=features, valid=valid)

    return taken(applied(of_rows, batch, shown), np.flatnonzero(shown.any(1)))


def partly_labelled(batch: Batch, share: float, seed: int, by_class: bool = False) -> Batch:
    """Return utterances of which a share has a label.

    A larger share keeps the labels of a smaller one.

    Args:
      share: in (0, 1], of the labels that are there.
      by_class: labels are numbers of classes, which keep their proportions.
    """
    rng = np.random.default_rng([seed, LABELS])
    order = rng.permutation(np.flatnonzero(known_labels(batch.label)))
    if by_class:
        # The first of every class, then the second of every class, ...
        rank = np.zeros(len(order), int)
        for name in np.unique(batch.label[order]):
            of_class = batch.label[order] == name
            rank[of_class] = np.arange(of_class.sum()) / of_class.sum() * len(order)
        order = order[np.argsort(rank, kind="stable")]
    label = batch.label.astype(np.float32)
    label[order[round(share * len(order)) :]] = np.nan
    return dataclasses.replace(batch, label=label)
