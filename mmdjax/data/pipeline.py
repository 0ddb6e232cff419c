"""From a source to splits, in memory or read as they are used.

Each source becomes a tensorflow-datasets builder with array_record files, read through
`as_data_source` and grain; tensorflow is never imported.
"""

from __future__ import annotations

import hashlib
import json
import operator
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmdjax.data import entries, stored
from mmdjax.data.dataset import Dataset
from mmdjax.data.labels import with_task
from mmdjax.data.missing import natural
from mmdjax.data.settings import Data, Labels
from mmdjax.data.sources import digits, from_file, gcnet, mmsa, synthetic, synthetic_conversations
from mmdjax.data.sources.synthetic_labels import TASKS
from mmdjax.errors import UserError, choice, require
from mmdjax.runtime.files import cache_folder, write_bytes
from mmdjax.runtime.progress import Reporter
from mmdjax.types import Batch

SPLITS = ("train", "valid", "test")
# Of what a folder's layouts read.
SUFFIXES = (".npy", ".npz", ".csv", ".csd", ".h5", ".hdf5", ".pkl", ".pickle", ".p", ".pk")


class Source(NamedTuple):
    """A source of data. A new one is one file with a `read`, and one entry in `SOURCES`.

    Attributes:
      read: (`Data` settings, tell) -> split -> `Batch`, or `builder.Blocks` that make it. tell:
        takes a line for the user.
      labels: names of the labels that it can have.
      synthetic: it makes its own data, with fixed modalities and no path.
      path: it reads `data.path`.
      kept: prepared files are kept as array_record.
      optimum: `Data` settings -> the exact answer, see `Dataset.optimum`; None on real data.
    """

    read: Callable[..., dict[str, Batch]]
    labels: tuple[str, ...] = ("sentiment",)
    synthetic: bool = False
    path: bool = True
    kept: bool = True
    optimum: Callable | None = None


def _read_mixture(data: Data, tell: Callable[[str], None]) -> dict[str, Batch]:
    return synthetic.blocks(*_drawn(data), synthetic.LAWS[data.name], data.labels)


def _read_file(data: Data, tell: Callable[[str], None]) -> dict[str, Batch]:
    return from_file.read(data.path, data.names_by_key(), data.layout, data.seed, tell)


_drawn = operator.attrgetter("train", "valid", "test", "seed")  # the law of a synthetic set
LABELS = ("sentiment", "rating", "emotion", "affect", "signs")
_MIXTURE = Source(_read_mixture, LABELS, synthetic=True, optimum=synthetic.optimum)
SOURCES = {
    "synthetic": _MIXTURE,
    "synthetic_five": _MIXTURE,
    "mmsa": Source(lambda data, tell: mmsa.read(data.path, data.names_by_key())),
    "file": Source(_read_file),
    "synthetic_conversations": Source(
        lambda data, tell: synthetic_conversations.read(*_drawn(data)),
        synthetic=True,
        kept=False,
        optimum=synthetic_conversations.optimum,
    ),
    "digits": Source(
        lambda data, tell: digits.read(data.names_by_key(), data.seed), path=False, kept=False
    ),
    "gcnet": Source(
        lambda data, tell: gcnet.read(data.path, data.names_by_key(), data.seed, tell), kept=False
    ),
}


def modality_names(data: Data) -> tuple[str, ...]:
    """Return the names in the order of the modality axis, known before anything is read."""
    law = synthetic.LAWS.get(data.name, synthetic.MODALITIES)
    return tuple(data.names_by_key().values()) or tuple(law)


def fingerprint(data: Data) -> str:
    """Name what a prepared data set was made from, so that another never takes its place.

    Raises:
      UserError: `data.path` is not a file, nor, for 'file', a folder.
    """
    facts = {"name": data.name, "modalities": data.modalities, "format": 3}
    if SOURCES[data.name].synthetic:
        facts["law"] = synthetic.Law(data.seed, synthetic.LAWS[data.name]).fingerprint()
        facts |= {key: getattr(data, key) for key in ("train", "valid", "test", "seed", "labels")}
    else:
        path, any_layout = Path(data.path).resolve(), data.name == "file"
        if not path.is_file() and not (any_layout and path.is_dir()):
            kind = "a file or folder" if any_layout else "a file"
            raise UserError(f"data.path {data.path!r} is not {kind}; give the data set's")
        facts |= {"content": _digest(path)}
        beside = path.parent / "features"  # of a pickle of GCNet
        if any_layout and path.is_file() and beside.is_dir():
            facts |= {"features": _digest(beside)}
        facts |= {"layout": data.layout, "seed": data.seed} if any_layout else {}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def fingerprint_of(splits: Mapping[str, Batch]) -> str:
    """Name splits by what was read, wherever it stood."""
    digest = hashlib.sha256()
    for split, batch in splits.items():
        columns = {f"features {m}": x for m, x in batch.features.items()}
        columns |= {f"valid {m}": v for m, v in batch.valid.items()}
        columns |= {"label": batch.label, "id": batch.id}
        columns |= batch.talk._asdict() if batch.talk else {}
        for name, a in columns.items():
            digest.update(f"{split} {name} {a.dtype} {a.shape}".encode())
            digest.update(np.ascontiguousarray(a).tobytes())
    return digest.hexdigest()[:16]


def _files_of(folder: Path) -> Iterator[Path]:
    """Yield files of features in a folder and where its links lead, in order; each folder once."""
    seen: set[str] = set()
    for at, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(at)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths = (Path(at, name) for name in sorted(names))
        yield from (path for path in paths if path.suffix in SUFFIXES and path.is_file())


def _digest(path: Path) -> str:
    """Return a hash of the content of a file or of a folder's files, wherever they are.

    It is kept beside the prepared data, so that what has not changed is read once.
    """
    files = [path] if path.is_file() else list(_files_of(path))
    seen = hashlib.sha256()
    for file in files:
        stat = file.stat()
        seen.update(os.fsencode(f"{file} {stat.st_size} {stat.st_mtime_ns}"))
    known = cache_folder() / "digests" / seen.hexdigest()
    if not known.is_file():
        digests = []
        for file in files:
            with file.open("rb") as opened:
                digests.append(hashlib.file_digest(opened, "sha256").hexdigest())
        if not path.is_file():
            names = [os.fsencode(file.relative_to(path)) for file in files]
            whole = repr(list(zip(names, digests, strict=True)))
            digests = [hashlib.sha256(whole.encode()).hexdigest()]
        write_bytes(known, digests[0].encode())
    return known.read_text()


def dataset(
    data: Data, labels: Labels, folder: Path | None = None, streams: bool = False
) -> Dataset:
    """Return the splits of a configured source, their task, and the exact answer where it is known.

    Args:
      data, labels: `mmdjax.data.settings.Data` and `Labels`.
      folder: where prepared files are kept, `cache_folder()` by default.
      streams: splits beyond `data.buffer` are not read into memory.

    Raises:
      UserError: unknown source, what the source itself refuses, or labels that do not fit the task.
    """
    splits, source = load(data, folder, streams), SOURCES[data.name]
    content = fingerprint(data) if source.kept else fingerprint_of(splits)
    splits = entries.filled(splits)
    if data.complete < 1:
        splits["train"] = natural.incomplete(splits["train"], data.complete, data.seed)
    if not data.incomplete:
        whole = splits["train"].present.all(1)
        require(whole.any(), "no training utterance is complete", "config.data.incomplete=True")
        splits["train"] = stored.taken(splits["train"], np.flatnonzero(whole))
    own = TASKS[data.labels] if source.synthetic and not labels.kind else None
    place = f"{data.path}: " if data.path else ""
    splits, task = with_task(place, splits, labels, own)
    if data.labelled < 1:  # what is hidden does not change what the labels are
        by_class = task.kind == "classification"
        splits["train"] = natural.partly_labelled(
            splits["train"], data.labelled, data.seed, by_class
        )
    optimum = source.optimum and not labels.kind and source.optimum(data)
    # The task of synthetic labels is known without a sample.
    fitted = task if own else task.fitted(splits["train"].label)
    if fitted != task:  # not what an output meant before there was a fit: other phases
        content += "-fitted"
    return Dataset(splits, fitted, content, optimum or None)


def load(data: Data, folder: Path | None = None, streams: bool = False) -> dict[str, Batch]:
    """Return the splits of a configured source in its own units; see `dataset`."""
    choice("data set", data.name, SOURCES)
    source = SOURCES[data.name]
    if source.path and not source.synthetic and not data.path:
        raise UserError("data.path is empty; give your file: --config.data.path=aligned_50.pkl")
    splits = _kept(data, folder, streams) if source.kept else source.read(data, Reporter().print)
    for split, batch in splits.items():
        require(len(batch) >= 2, f"split {split!r} has {len(batch)} utterances", "at least two")
        for name, there in zip(batch.modalities, batch.present.any(0), strict=True):
            nobody = f"split {split!r}: none of {len(batch)} utterances has {name}"
            require(there, nobody, "modalities that some utterances of every split have")
    return splits


def _kept(data: Data, folder: Path | None, streams: bool) -> dict[str, Batch]:
    """Return splits that are prepared once for each content, then read through grain."""
    from mmdjax.data import builder  # tensorflow-datasets takes a second to import

    root = (folder or cache_folder()) / "datasets"
    name, lines = fingerprint(data), []
    told = root / "told" / f"{name}.txt"

    def read() -> dict[str, Batch]:
        splits = SOURCES[data.name].read(data, lines.append)
        if lines:
            write_bytes(told, "\n".join(lines).encode(errors="backslashreplace"))
        return splits

    prepared = builder.prepare(data.name, name, read, root)
    for line in told.read_text().splitlines() if told.is_file() else ():  # at every start
        Reporter().print(line)
    tell = Reporter().print
    return {name: builder.opened(prepared, name, data.buffer, streams, tell) for name in SPLITS}
