"""Ridge regression on mean-pooled observed features, one for each availability pattern.

The yardstick that a network has to beat; its strength is chosen on validation.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from mmdjax.types import Batch

STRENGTHS = 10.0 ** np.arange(-1, 5.5, 0.5)


def pooled(batch: Batch, names: list[str]) -> np.ndarray:
    """(N, sum of C_m): mean over valid frames of each named modality."""
    columns = []
    for name in names:
        mask = batch.valid[name][..., None]
        columns.append(
            np.where(mask, batch.features[name], 0.0).sum(1) / np.maximum(mask.sum(1), 1)
        )
    return np.concatenate(columns, axis=1)


def predictions(splits: Mapping[str, Batch], patterns: np.ndarray) -> np.ndarray:
    """(P, N_test) predictions; patterns (P, M)."""
    modalities, result = splits["train"].modalities, []
    label = splits["train"].label
    targets = np.repeat(label[:, None], len(STRENGTHS), axis=1)  # one Gram matrix for all strengths
    for pattern in patterns:
        names = [name for name, kept in zip(modalities, pattern, strict=True) if kept]
        x = {split: pooled(batch, names) for split, batch in splits.items()}
        scaler = StandardScaler().fit(x["train"])
        x = {split: scaler.transform(values) for split, values in x.items()}
        model = Ridge(alpha=STRENGTHS, solver="cholesky").fit(x["train"], targets)
        errors = np.abs(model.predict(x["valid"]) - splits["valid"].label[:, None]).mean(0)
        result.append(model.predict(x["test"])[:, np.argmin(errors)])
    return np.stack(result)
