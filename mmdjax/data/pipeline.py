"""From a source to standardised splits in memory.

Each source becomes a tensorflow-datasets builder with array_record files, read through
`as_data_source` and grain; tensorflow is never imported.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from mmdjax.data.conversations import Conversations
from mmdjax.errors import UserError, choice
from mmdjax.runtime.files import cache_folder, write_bytes
from mmdjax.types import Batch

SPLITS = ("train", "valid", "test")
# A channel that is constant over the training split carries nothing: it becomes zero, not noise.
SMALLEST_STD = 1e-6
# Of what a folder's layouts read.
SUFFIXES = (".npy", ".npz", ".csv", ".csd", ".h5", ".hdf5", ".pkl", ".pickle", ".p", ".pk")
# Standardised features beyond this many deviations are clipped: one broken frame of openSMILE
# lies 50 deviations out and would otherwise rule a convolution's output.
LARGEST_DEVIATION = 10.0


def _read_synthetic(data) -> dict[str, Batch]:
    from mmdjax.data.sources import synthetic

    modalities = synthetic.LAWS[data.name]
    return synthetic.read(data.train, data.valid, data.test, data.seed, modalities)


def _read_mmsa(data) -> dict[str, Batch]:
    from mmdjax.data.sources import mmsa

    return mmsa.read(data.path, data.names_by_key())


def _read_file(data, tell: Callable[[str], object]) -> dict[str, Batch]:
    from mmdjax.data.sources import from_file

    return from_file.read(data.path, data.names_by_key(), data.layout, data.seed, tell)


def _tell(line: str) -> None:
    from mmdjax.runtime.progress import Reporter

    Reporter().print(line)


# name -> (config.data) -> splits. A new source is one file with a `read`, and one entry here.
SOURCES: dict[str, Callable[..., dict[str, Batch]]] = {
    "synthetic": _read_synthetic,
    "mmsa": _read_mmsa,
    "file": lambda data: _read_file(data, _tell),
    "synthetic_five": _read_synthetic,
}


def _read_synthetic_conversations(data) -> dict[str, Conversations]:
    from mmdjax.data.sources import synthetic_conversations

    return synthetic_conversations.read(data.train, data.valid, data.test, data.seed)


def _read_gcnet(data) -> dict[str, Conversations]:
    from mmdjax.data.sources import gcnet

    path, asked = Path(data.path), "give GCNet's folder or pickle, or an .npz"
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.suffix in (".pkl", ".pickle"))
        if len(found) != 1:
            raise UserError(f"data.path {data.path!r} holds {len(found)} pickles; {asked}")
        path = found[0]
    if not path.is_file():
        raise UserError(f"data.path {data.path!r} is not a file; {asked}")
    return gcnet.read(str(path), data.names_by_key(), data.classes, _tell)


# The same for conversations, which are small and read as they are.
CONVERSATIONS: dict[str, Callable[..., dict[str, Conversations]]] = {
    "synthetic_conversations": _read_synthetic_conversations,
    "gcnet": _read_gcnet,
}
# Sources that make their own data: they have no path and fixed modalities.
SYNTHETIC = ("synthetic", "synthetic_five", "synthetic_conversations")


def modality_names(data) -> tuple[str, ...]:
    """In the order of the modality axis, known before anything is read."""
    from mmdjax.data.sources.synthetic import LAWS, MODALITIES

    return tuple(data.names_by_key().values()) or tuple(LAWS.get(data.name, MODALITIES))


def fingerprint(data) -> str:
    """Names what a prepared data set was made from, so that another never takes its place.

    Raises:
      UserError: `data.path` is not a file, nor, for 'file', a folder.
    """
    facts = {"name": data.name, "modalities": data.modalities, "format": 1}
    if data.name not in SYNTHETIC:
        path, any_layout = Path(data.path).resolve(), data.name == "file"
        if not path.is_file() and not (any_layout and path.is_dir()):
            what = "a file or folder" if any_layout else "a file"
            raise UserError(f"data.path {data.path!r} is not {what}; give the data set's")
        facts |= {"content": _digest(path)}
        beside = path.parent / "features"  # of a pickle of GCNet
        if any_layout and path.is_file() and beside.is_dir():
            facts |= {"features": _digest(beside)}
        facts |= {"layout": data.layout, "seed": data.seed} if any_layout else {}
    else:
        from mmdjax.data.sources.synthetic import LAWS, Law

        facts["law"] = Law(data.seed, LAWS[data.name]).fingerprint()
        facts |= {key: getattr(data, key) for key in ("train", "valid", "test", "seed")}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def fingerprint_of(splits: Mapping[str, Conversations]) -> str:
    """As `fingerprint`, of conversations: of what was read, wherever it stood."""
    digest = hashlib.sha256()
    for split, part in splits.items():
        columns = {f.name: getattr(part, f.name) for f in dataclasses.fields(part)}
        features = columns.pop("features")
        for name, a in (features | columns).items():
            digest.update(f"{split} {name} {a.dtype} {a.shape}".encode())
            digest.update(np.ascontiguousarray(a).tobytes())
    return digest.hexdigest()[:16]


def _files_of(folder: Path) -> Iterator[Path]:
    """Files of features in a folder and where its links lead, in order; each folder once."""
    seen: set[str] = set()
    for at, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(at)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(at, name)
            if path.suffix in SUFFIXES and path.is_file():
                yield path


def _digest(path: Path) -> str:
    """Of the content of a file, or of a folder's files: a copy, or one that was touched, is the
    same data. Kept beside the prepared data, so that what has not changed is read once."""
    files = [path] if path.is_file() else list(_files_of(path))
    seen = hashlib.sha256()
    for file in files:
        stat = file.stat()
        seen.update(os.fsencode(f"{file} {stat.st_size} {stat.st_mtime_ns}"))
    kept = cache_folder() / "digests" / seen.hexdigest()
    if not kept.is_file():
        digests = []
        for file in files:
            with file.open("rb") as opened:
                digests.append(hashlib.file_digest(opened, "sha256").hexdigest())
        if not path.is_file():
            names = [os.fsencode(file.relative_to(path)) for file in files]
            whole = repr(list(zip(names, digests, strict=True)))
            digests = [hashlib.sha256(whole.encode()).hexdigest()]
        write_bytes(kept, digests[0].encode())
    return kept.read_text()


def load_conversations(data) -> dict[str, Conversations]:
    """The splits of a configured source of conversations, not yet standardised.

    Raises:
      UserError: unknown source, or what the source itself refuses.
    """
    choice("data set", data.name, CONVERSATIONS)
    if data.name not in SYNTHETIC and not data.path:
        raise UserError("data.path is empty; give your file: --config.data.path=features.pkl")
    splits = CONVERSATIONS[data.name](data)
    for split, part in splits.items():
        if len(part) < 2 or not (data.classes or part.label.any()):
            raise UserError(
                f"split {split!r} has {len(part)} utterances and "
                f"{(part.label != 0).sum()} labels other than 0; "
                "allowed: at least two utterances, one of them not neutral"
            )
    return splits


def load(data, folder: Path | None = None) -> dict[str, Batch]:
    """The splits of a configured source, not yet standardised.

    Args:
      data: `mmdjax.config.Data`.
      folder: where prepared files are kept, `cache_folder()` by default.

    Raises:
      UserError: unknown source, or what the source itself refuses.
    """
    choice("data set", data.name, SOURCES)
    if data.name in ("mmsa", "file") and not data.path:
        raise UserError("data.path is empty; give your file: --config.data.path=aligned_50.pkl")
    from mmdjax.data import builder  # tensorflow-datasets takes a second to import

    root = (folder or cache_folder()) / "datasets"
    name, lines = fingerprint(data), []
    told = root / "told" / f"{name}.txt"

    def read() -> dict[str, Batch]:
        if data.name != "file":
            return SOURCES[data.name](data)
        splits = _read_file(data, lines.append)
        write_bytes(told, "\n".join(lines).encode(errors="backslashreplace"))
        return splits

    made = builder.prepare(data.name, name, read, root)
    for line in told.read_text().splitlines() if told.is_file() else ():  # every time
        _tell(line)
    splits = {split: builder.read_split(made, split) for split in SPLITS}
    for split, batch in splits.items():
        if len(batch) < 2 or not batch.label.any():
            raise UserError(
                f"split {split!r} has {len(batch)} utterances and "
                f"{(batch.label != 0).sum()} labels other than 0; "
                "allowed: at least two utterances, one of them not neutral"
            )
    return splits


def scaling(train: Batch) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """modality -> (mean, scale) (C_m) of valid frames: standardised is (x - mean) scale."""
    result = {}
    for name in train.modalities:
        frames = train.features[name][train.valid[name]].astype(np.float64)
        mean, std = frames.mean(0), frames.std(0)
        scale = np.where(std > SMALLEST_STD, 1 / np.maximum(std, SMALLEST_STD), 0.0)
        result[name] = (mean, scale)
    return result


def standardise(splits: Mapping[str, Batch]) -> dict[str, Batch]:
    """Zero mean and unit deviation per channel, from the training split's valid frames only.

    Padding becomes zero; values beyond `LARGEST_DEVIATION` are clipped.
    """
    result = {split: {} for split in splits}
    for name, (mean, scale) in scaling(splits["train"]).items():
        for split, batch in splits.items():
            x = ((batch.features[name] - mean) * scale).clip(-LARGEST_DEVIATION, LARGEST_DEVIATION)
            x = np.where(batch.valid[name][..., None], x, 0.0)
            result[split][name] = x.astype(np.float32)
    return {
        split: Batch(result[split], batch.valid, batch.label, batch.id)
        for split, batch in splits.items()
    }
