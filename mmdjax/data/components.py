"""Standardised features of each modality as D principal components of unit variance.

Diffusion needs one width and unit variances; classifiers read the features themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from sklearn.decomposition import PCA


class Components(NamedTuple):
    """For each modality: forward (C_m, D) and back (D, C_m). Columns that a modality does not have,
    C_m being smaller than D, are 0 in both."""

    forward: tuple[np.ndarray, ...]
    back: tuple[np.ndarray, ...]

    def of(self, features: Sequence[np.ndarray]) -> np.ndarray:
        """(..., C_m) each -> (..., M, D)."""
        parts = [x @ w for x, w in zip(features, self.forward, strict=True)]
        return np.stack(parts, axis=-2)


def fit(features: Mapping[str, np.ndarray], width: int) -> Components:
    """From training features (U, C_m) of mean 0; width: D."""
    forward, back = [], []
    for x in features.values():
        count = min(width, *x.shape)
        pca = PCA(count, svd_solver="full").fit(x)
        # Channels that are constant over the training split have no variance to scale to 1.
        kept = pca.explained_variance_ > 1e-6 * max(pca.explained_variance_[0], 1e-12)
        std = np.sqrt(pca.explained_variance_[kept])
        axes = np.zeros((width, x.shape[1]))
        axes[: kept.sum()] = pca.components_[kept]
        scale = np.ones(width)
        scale[: kept.sum()] = std
        forward.append((axes / scale[:, None]).T.astype(np.float32))
        back.append((axes * scale[:, None]).astype(np.float32))
    return Components(tuple(forward), tuple(back))
