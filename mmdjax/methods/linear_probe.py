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
    for pattern in patterns:
        names = [name for name, kept in zip(modalities, pattern, strict=True) if kept]
        scaler = StandardScaler().fit(pooled(splits["train"], names))
        x = {split: scaler.transform(pooled(batch, names)) for split, batch in splits.items()}
        models = [Ridge(alpha=s).fit(x["train"], splits["train"].label) for s in STRENGTHS]
        errors = [np.abs(m.predict(x["valid"]) - splits["valid"].label).mean() for m in models]
        result.append(models[int(np.argmin(errors))].predict(x["test"]))
    return np.stack(result)
