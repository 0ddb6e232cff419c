"""Sizes that a config leaves to the data: fields that are 0, and buckets that are ().

They follow from the number of utterances, the frames and the channels alone, so that equal data
give equal sizes on any machine.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from mmdjax.config.check import check
from mmdjax.runtime.settings import is_auto

# Latent frames, of which the fewest that hold nearly all utterances are taken.
FRAMES = (1, 4, 8, 12, 24, 48)
NEARLY_ALL = 0.95
EPOCH = 8192  # samples that an epoch of a small set takes
MANY = 5000  # utterances from which networks are large


def automatic(config) -> bool:
    """Return whether sizes of `mmdjax.config.Config` are left to the data."""
    groups = (getattr(config, field.name) for field in dataclasses.fields(config))
    some = any(map(is_auto, filter(dataclasses.is_dataclass, groups)))
    return some or not config.data.length_buckets or not config.fusion.network


def sized(config, dataset):
    """Return the config with sizes that fit `mmdjax.data.dataset.Dataset`, checked anew."""
    if not automatic(config):
        return config
    rules, changes = _rules(dataset, config), {}
    for name, values in rules.items():
        group = getattr(config, name)
        left = {f: v for f, v in values.items() if getattr(group, f) in (0, "", ())}
        changes[name] = dataclasses.replace(group, **left)
    frames = changes["latents"].frames
    if not config.data.length_buckets:
        shorter = [n for n in FRAMES if n < frames and 2 * n >= frames and frames > 12]
        changes["data"] = dataclasses.replace(config.data, length_buckets=(*shorter, frames))
    config = dataclasses.replace(config, **changes)
    check(config)
    return config


def _rules(dataset, config) -> dict[str, dict]:
    """Return group -> field -> its size for this data set."""
    train = dataset.splits["train"]
    rows = len(train)
    longest = np.stack([_lengths(v) for v in train.valid.values()]).max(0)
    needed = np.quantile(longest, NEARLY_ALL)
    frames = next((n for n in FRAMES if n >= needed), FRAMES[-1])
    channels = 64 if rows * frames >= 500 else 32
    network = config.fusion.network or ("pooled" if rows < MANY else "mult")
    small = rows < MANY
    batch = 32 if rows < 500 else 128
    training = {"batch": batch, "passes": max(1, round(EPOCH / rows))}
    return {
        "latents": {"frames": frames, "channels": channels},
        "fusion": {"network": network, "layers": 2, "heads": 4, "width": 256},
        "score": {
            "width": 128,
            "layers": 2 if small else 4,
            "heads": 4,
            "mlp": 256,
            "time_features": 128,
        },
        "decoder": {"channels": 32, "blocks": 2 if small else 8, "reduction": 8},
        "classifier_training": training,
        "score_training": training,
        "stage2_training": training,
    }


def _lengths(valid: np.ndarray) -> np.ndarray:
    """Return the frames (N,) up to the last that is known, of valid (N, T)."""
    return np.where(valid.any(1), valid.shape[1] - valid[:, ::-1].argmax(1), 0)
