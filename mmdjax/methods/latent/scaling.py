"""Latents on a scale of unit variance, in memory or read from a disk in use."""

from __future__ import annotations

import numpy as np

from mmdjax.data.moments import of_blocks
from mmdjax.data.stored import Stored
from mmdjax.methods.latent.modules import Scale
from mmdjax.types import Latents

SMALLEST_STD = 1e-3  # of a latent channel: a dead one is not blown up


def scale_of(train: Latents) -> Scale:
    """Return the scale of raw latents' valid frames."""
    modalities = range(train.x.shape[1])
    if isinstance(train.x, Stored):

        def frames(rows: np.ndarray) -> dict[int, np.ndarray]:
            x, valid = train.x[rows], train.valid[rows]
            return {m: x[:, m][valid[:, m]] for m in modalities}

        found = of_blocks(len(train.label), frames).values()
        means, deviations = [f.mean for f in found], [f.deviation for f in found]
    else:
        every = [train.x[:, m][train.valid[:, m]].astype(np.float64) for m in modalities]
        means, deviations = [f.mean(0) for f in every], [f.std(0) for f in every]
    std = np.array(deviations, np.float32)
    return Scale(np.array(means, np.float32), np.maximum(std, SMALLEST_STD))


def scaled(latents: Latents, scale: Scale) -> Latents:
    """Return raw latents on a scale, 0 off their valid frames."""

    def of_rows(x, valid):
        return np.where(valid[..., None], (x - scale.mean[:, None]) / scale.std[:, None], 0.0)

    if not isinstance(latents.x, Stored):
        return latents._replace(x=of_rows(latents.x, latents.valid))
    table = latents.x.table.mapped(lambda part, rows: {**part, "x": of_rows(**part)})
    return Latents(*table.columns().values(), latents.label)
