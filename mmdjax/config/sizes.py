"""A first model of any data: settings that suit sets of hundreds of utterances to large ones, and
sizes that follow from the data where a config says 0 (of buckets (), of the fusion '').

Sizes depend on the number of utterances and their frames alone, so that equal data give equal ones
on any machine.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from mmdjax.config import Config, to_dict
from mmdjax.config.check import check
from mmdjax.data.stored import evenly, is_stored, read
from mmdjax.errors import require
from mmdjax.runtime.settings import is_auto
from mmdjax.types import known_labels

if TYPE_CHECKING:
    from mmdjax.data.dataset import Dataset

# Of `auto`, by group: regularised by dropout and noise, stopped by validation, averaged parameters.
# First chosen on the validation split of the digits (configs/digits.py).
_TRAINING = {
    "epochs": 40,
    "passes": 0,
    "patience": 10,
    "batch": 0,
    "learning_rate": 1e-3,
    "weight_decay": 1e-2,
    "ema": 0.99,
}
AUTO: dict[str, Any] = {
    "optimise": False,
    "rounds": 24,
    "data": {"length_buckets": ()},
    "latents": {"frames": 0, "channels": 0, "noise": 0.5, "unimodal": 1.0},
    "fusion": {"network": "", "layers": 0, "heads": 0, "width": 0, "dropout": 0.5, "told": True},
    "score": {"width": 0, "layers": 0, "heads": 0, "mlp": 0, "time_features": 0},
    "diffusion": {"recipe": "fast"},
    "decoder": {"use": False},
    "classifier_training": _TRAINING,
    "score_training": _TRAINING | {"epochs": 16, "patience": 5},
    "student_training": _TRAINING | {"epochs": 3, "learning_rate": 2e-3, "warmup": 10},
    "stage2_training": _TRAINING,
    "evaluation": {"draws": 16, "batch": 1024},
}
# Latent frames, of which the fewest that hold nearly all utterances are taken.
FRAMES = (1, 4, 8, 12, 24, 48)
NEARLY_ALL = 0.95
EPOCH = 8192  # samples that an epoch of a small set takes
FEW = 1  # latent frames of small sets: the mean over time, which is all that few labels teach
LONG = 24  # frames beyond which utterances are long
MOST_CHANNELS = 80
SEEN = 4096  # utterances of a set that is not in memory, evenly spaced, whose lengths are seen
MANY = 5000  # utterances from which networks are large


def auto() -> dict[str, Any]:
    """Return the plain values of a config that fits itself to any data."""
    values = to_dict(Config())
    for name, changes in AUTO.items():
        values[name] = values[name] | changes if isinstance(changes, dict) else changes
    return values


def automatic(config: Config) -> bool:
    """Return whether sizes of `mmdjax.config.Config` are left to the data."""
    return is_auto(config) or not config.data.length_buckets or not config.fusion.network


def sized(config: Config, dataset: Dataset) -> Config:
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
    require(
        not is_auto(config),
        "sizes of 0 in phases other than classifier_training, score_training, student_training, "
        "stage2_training and imder_training",
        "numbers",
    )
    check(config)
    return config


def _rules(dataset: Dataset, config: Config) -> dict[str, dict]:
    """Return group -> field -> its size for this data set."""
    train = dataset.splits["train"]
    rows = len(train)
    seen = read(train, evenly(rows, SEEN)) if is_stored(train) else train
    longest = np.stack([_lengths(v) for v in seen.valid.values()]).max(0)
    needed = np.quantile(longest, NEARLY_ALL)
    frames = next((n for n in FRAMES if n >= needed), FRAMES[-1])
    frames = min(frames, FEW) if rows < MANY else frames
    widest = max(x.shape[2] for x in train.features.values())
    channels = 16 * min(-(-widest // 16), MOST_CHANNELS // 16)
    network = config.fusion.network or ("pooled" if rows < MANY else "mult")
    small = rows < MANY
    # Steps on sequences take longer, the more so the longer they are.
    epoch = EPOCH if frames == 1 else EPOCH // (2 if needed <= LONG else 3)
    labelled = max(1, int(known_labels(train.label).sum()))

    def training(rows: int) -> dict[str, int]:
        return {"batch": 32 if rows < 128 else 128, "passes": max(1, round(epoch / rows))}

    return {
        "latents": {"frames": frames, "channels": channels},
        "fusion": {"network": network, "layers": 2, "heads": 4, "width": 512},
        "score": {
            "width": 128,
            "layers": 3 if small else 4,
            "heads": 4,
            "mlp": 256,
            "time_features": 128,
        },
        "decoder": {"channels": 32, "blocks": 2 if small else 8, "reduction": 8},
        "classifier_training": training(rows if config.latents.reconstruction else labelled),
        "score_training": training(rows),
        "student_training": training(rows),
        "stage2_training": training(labelled),
        "imder_training": training(labelled),
    }


def _lengths(valid: np.ndarray) -> np.ndarray:
    """Return the frames (N,) up to the last that is known, of valid (N, T)."""
    return np.where(valid.any(1), valid.shape[1] - valid[:, ::-1].argmax(1), 0)
