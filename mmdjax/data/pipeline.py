"""From a source to standardised splits in memory.

Each source becomes a tensorflow-datasets builder with array_record files, read through
`as_data_source` and grain; tensorflow is never imported.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from mmdjax.errors import UserError, choice
from mmdjax.files import cache_folder
from mmdjax.types import Batch

SPLITS = ("train", "valid", "test")
# A channel that is constant over the training split carries nothing: it becomes zero, not noise.
SMALLEST_STD = 1e-6
# Standardised features beyond this many deviations are clipped: one broken frame of openSMILE
# lies 50 deviations out and would otherwise rule a convolution's output.
LARGEST_DEVIATION = 10.0


def _read_synthetic(data) -> dict[str, Batch]:
    from mmdjax.data import synthetic

    return synthetic.read(data.train, data.valid, data.test, data.seed)


def _read_mmsa(data) -> dict[str, Batch]:
    from mmdjax.data import mmsa

    return mmsa.read(data.path, data.names_by_key())


# name -> (config.data) -> splits. A new source is one file with a `read`, and one entry here.
SOURCES: dict[str, Callable[..., dict[str, Batch]]] = {
    "synthetic": _read_synthetic,
    "mmsa": _read_mmsa,
}


def modality_names(data) -> tuple[str, ...]:
    """In the order of the modality axis, known before anything is read."""
    from mmdjax.data.synthetic import MODALITIES

    return tuple(data.names_by_key().values()) or tuple(MODALITIES)


def fingerprint(data) -> str:
    """Names what a prepared data set was made from, so that another never takes its place.

    Raises:
      UserError: `data.path` is not a file.
    """
    facts = {"name": data.name, "modalities": data.modalities, "format": 1}
    if data.name != "synthetic":
        path = Path(data.path).resolve()
        if not path.is_file():
            raise UserError(f"data.path {data.path!r} is not a file; give the data set's pickle")
        stat = path.stat()
        facts |= {"path": str(path), "bytes": stat.st_size, "changed": stat.st_mtime_ns}
    else:
        from mmdjax.data.synthetic import Law

        facts["law"] = Law(data.seed).fingerprint()
        facts |= {key: getattr(data, key) for key in ("train", "valid", "test", "seed")}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def load(data, folder: Path | None = None) -> dict[str, Batch]:
    """The splits of a configured source, not yet standardised.

    Args:
      data: `mmdjax.config.Data`.
      folder: where prepared files are kept, `cache_folder()` by default.

    Raises:
      UserError: unknown source, or what the source itself refuses.
    """
    choice("data set", data.name, SOURCES)
    if data.name == "mmsa" and not data.path:
        raise UserError("data.path is empty; give your file: --config.data.path=aligned_50.pkl")
    from mmdjax.data import builder  # tensorflow-datasets takes a second to import

    root = (folder or cache_folder()) / "datasets"
    made = builder.prepare(data.name, fingerprint(data), lambda: SOURCES[data.name](data), root)
    splits = {split: builder.read_split(made, split) for split in SPLITS}
    for split, batch in splits.items():
        if len(batch) < 2 or not batch.label.any():
            raise UserError(
                f"split {split!r} has {len(batch)} utterances and "
                f"{(batch.label != 0).sum()} labels other than 0; "
                "allowed: at least two utterances, one of them not neutral"
            )
    return splits


def standardise(splits: Mapping[str, Batch]) -> dict[str, Batch]:
    """Zero mean and unit deviation per channel, from the training split's valid frames only.

    Padding becomes zero; values beyond `LARGEST_DEVIATION` are clipped.
    """
    train, result = splits["train"], {split: {} for split in splits}
    for name in train.modalities:
        frames = train.features[name][train.valid[name]].astype(np.float64)
        mean, std = frames.mean(0), frames.std(0)
        scale = np.where(std > SMALLEST_STD, 1 / np.maximum(std, SMALLEST_STD), 0.0)
        for split, batch in splits.items():
            x = ((batch.features[name] - mean) * scale).clip(-LARGEST_DEVIATION, LARGEST_DEVIATION)
            x = np.where(batch.valid[name][..., None], x, 0.0)
            result[split][name] = x.astype(np.float32)
    return {
        split: Batch(result[split], batch.valid, batch.label, batch.id)
        for split, batch in splits.items()
    }
