"""How completed features err, entry by entry: what kriging corrects draws with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmdjax.data import kriging
from mmdjax.data.entries import MOST_CHANNELS, known_entries
from mmdjax.methods.latent import feature_decoder


def errors_of_features(
    method: Any,
    decoders: Mapping[str, feature_decoder.FeatureDecoder],
    parts: Sequence[tuple[Mapping[str, np.ndarray] | None, np.ndarray]],
) -> dict[str, dict]:
    """Return modality -> 'field', the covariance of the errors of completed features over the
    validation split.

    Args:
      parts: frames that were shown, modality -> (N, T_m) bool, and the completed latents
        (N, M, T, D), for each of some conditions; (None, latents) of what is complete.
    """
    split, rng, fields = method.dataset.standardised["valid"], np.random.default_rng(0), {}
    for i, m in enumerate(method.modalities):
        x = split.features[m]
        if x.shape[2] > MOST_CHANNELS:
            continue
        errors, shown = [], []
        for frames, z in parts:
            made = feature_decoder.decode(decoders[m].weights, z[:, i], x.shape[1])
            errors.append(x - made - rng.standard_normal(x.shape) @ decoders[m].residual.T)
            shown.append(
                np.ones((*x.shape[:2], 1), bool) if frames is None else frames[m][..., None]
            )
        error, shown = (
            np.stack(each, 1).reshape(-1, *each[0].shape[1:]) for each in (errors, shown)
        )
        known = np.repeat(known_entries(split, m), len(parts), 0)
        whole = all(frames is None for frames, _ in parts)
        fields[m] = {"field": kriging.fit(error, known, None if whole else shown)._asdict()}
    return fields
