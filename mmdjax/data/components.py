"""Standardised features of each modality as D principal components of unit variance.

Diffusion needs one width and unit variances; classifiers read the features themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np


class Components(NamedTuple):
    """Matrices of each modality, forward (C_m, D) and back (D, C_m).

    Columns beyond C_m, where that is smaller than D, are 0 in both.
    """

    forward: tuple[np.ndarray, ...]
    back: tuple[np.ndarray, ...]

    def of(self, features: Sequence[np.ndarray]) -> np.ndarray:
        """Return components (..., M, D) of features (..., C_m) each."""
        return np.stack([x @ w for x, w in zip(features, self.forward, strict=True)], axis=-2)


def fit(features: Mapping[str, np.ndarray], width: int) -> Components:
    """Fit training features (U, C_m) of mean 0; width: D."""
    from sklearn.decomposition import PCA  # not of a served model

    forward, back = [], []
    for x in features.values():
        count = min(width, *x.shape)
        pca = PCA(count, svd_solver="full").fit(x)
        # Channels that are constant over the training split have no variance to scale to 1.
        varied = pca.explained_variance_ > 1e-6 * max(pca.explained_variance_[0], 1e-12)
        axes, scale = np.zeros((width, x.shape[1])), np.ones(width)
        axes[: varied.sum()] = pca.components_[varied]
        scale[: varied.sum()] = np.sqrt(pca.explained_variance_[varied])
        forward.append((axes / scale[:, None]).T.astype(np.float32))
        back.append((axes * scale[:, None]).astype(np.float32))
    return Components(tuple(forward), tuple(back))
