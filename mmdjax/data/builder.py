"""A tensorflow-datasets builder over any source, and its reader through grain."""

from __future__ import annotations

import contextlib
import functools
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grain.python as grain
import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from mmdjax.data.stored import FILE_ROWS, Kind, Table, batch_of, blocks, evenly, read
from mmdjax.runtime.files import locked
from mmdjax.types import Batch, Talk

VALIDATED = 4096  # of a validation split that is too large for the buffer
Blocks = Sequence[Callable[[], Batch]]  # each makes `FILE_ROWS` utterances, the last one the rest


class Utterances(tfds.core.ShardBasedBuilder):
    """Utterances of several modalities, one example each: features, frames, label, id.

    A file holds a block of utterances, in the source's order. So no more than a block is in memory
    while files are written.
    """

    VERSION = tfds.core.Version("1.0.0")

    def __init__(
        self, source: str, fingerprint: str, splits: Mapping[str, Blocks], data_dir: Path
    ) -> None:
        # Shapes are part of the description that tfds asks for while it is constructed.
        self.name = source
        self._blocks = splits
        config = tfds.core.BuilderConfig(name=fingerprint, version=self.VERSION)
        super().__init__(data_dir=data_dir, config=config, file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        train = self._blocks["train"][0]()

        def of_row(array: np.ndarray) -> tfds.features.Tensor:
            # Bytes, not lists of numbers: read many times faster.
            encoding = tfds.features.Encoding.BYTES if array.ndim > 1 else "none"
            return tfds.features.Tensor(shape=array.shape[1:], dtype=array.dtype, encoding=encoding)

        features = {
            "features": {name: of_row(x) for name, x in train.features.items()},
            "valid": {name: of_row(v) for name, v in train.valid.items()},
            "label": of_row(train.label),
            "id": tfds.features.Text(),
            "row": tfds.features.Tensor(shape=(), dtype=np.int32),
        }
        if train.talk:
            features |= {
                "conversation": tfds.features.Text(),
                "position": of_row(train.talk.position),
                "speaker": of_row(train.talk.speaker),
            }
        facts = {"modalities": list(train.modalities), "classes": list(train.classes)}
        return tfds.core.DatasetInfo(
            builder=self,
            # tfds sorts the keys of a dict; the order of the modalities is ours to keep.
            metadata=tfds.core.MetadataDict(**facts),
            features=tfds.features.FeaturesDict(features),
        )

    def _shard_iterators_per_split(self, dl_manager: Any) -> dict[str, list[Callable]]:
        return {
            split: [
                functools.partial(_examples, block, i * FILE_ROWS) for i, block in enumerate(blocks)
            ]
            for split, blocks in self._blocks.items()
        }


def _examples(block: Callable[[], Batch], first: int) -> Iterator[tuple[int, dict[str, Any]]]:
    batch = block()
    for row in range(len(batch)):
        example = {
            "features": {name: x[row] for name, x in batch.features.items()},
            "valid": {name: v[row] for name, v in batch.valid.items()},
            "label": batch.label[row],
            "id": str(batch.id[row]),
            "row": first + row,
        }
        if batch.talk:
            example |= {name: a[row] for name, a in batch.talk._asdict().items()}
            example["conversation"] = str(example["conversation"])
        yield first + row, example


def prepare(
    source: str, fingerprint: str, read: Callable[[], Mapping[str, Batch | Blocks]], data_dir: Path
) -> tfds.core.DatasetBuilder:
    """Return a builder whose files exist in data_dir / source / fingerprint; `read` runs if needed.

    tfds writes into a temporary folder and renames it, so an interrupted call leaves nothing.

    Args:
      read: () -> split -> all of it, or what makes each block of `FILE_ROWS` utterances, in order.
    """
    folder = data_dir / source / fingerprint / "1.0.0"
    if not folder.exists():
        tfds.disable_progress_bar()
        # Several processes of a run, or several runs, may want it at once: one makes it.
        with locked(data_dir / ".lock", wait=True):
            if not folder.exists():
                splits = {name: _blocks(split) for name, split in read().items()}
                with _quiet():
                    Utterances(source, fingerprint, splits, data_dir).download_and_prepare()
    return tfds.builder_from_directory(folder)


def _blocks(split: Batch | Blocks) -> Blocks:
    if not isinstance(split, Batch):
        return split
    starts = range(0, len(split), FILE_ROWS)
    return [lambda i=i: split.at(slice(i, i + FILE_ROWS)) for i in starts]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide that tfds announces a download (there is none) and warns of our own configuration."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(before)


def opened(
    builder: tfds.core.DatasetBuilder,
    split: str,
    buffer: int,
    streams: bool,
    tell: Callable[[str], None],
) -> Batch:
    """Return a split in memory; one that is too large for it as columns that are read in use, or of
    a validation split a part.

    Args:
      buffer: MiB of features that are not too large. streams: whether columns will do.
      tell: takes a line for the user about a split that is too large.
    """
    size, rows = mebibytes(builder, split), builder.info.splits[split].num_examples
    if size <= buffer or (split == "valid" and rows <= VALIDATED):
        return read_split(builder, split)
    about = f"split {split!r}: {rows} utterances, {size:.0f} MiB (data.buffer is {buffer}):"
    if not streams or "conversation" in builder.info.features:
        tell(f"{about} in memory, since a method or conversations need all of it")
        return read_split(builder, split)
    batch = open_split(builder, split)
    if split == "valid":
        tell(f"{about} {VALIDATED} of them, evenly spaced, validate")
        return read(batch, evenly(rows, VALIDATED))
    tell(f"{about} read from files in use")
    return batch


def mebibytes(builder: tfds.core.DatasetBuilder, split: str) -> float:
    """Return what the features of a split take as arrays."""
    features = builder.info.features["features"].values()
    row = sum(math.prod(f.shape) * np.dtype(f.np_dtype).itemsize for f in features)
    return builder.info.splits[split].num_examples * row / 2**20


def open_split(builder: tfds.core.DatasetBuilder, split: str) -> Batch:
    """Return a split whose features are read when they are asked for, by random access.

    In memory are of each row its label, its place in the files, and what is present of it.
    """
    info, source = builder.info, builder.as_data_source(split)
    names, kinds = info.metadata["modalities"], {}
    # No more is decoded than what stays in memory.
    few = tfds.features.FeaturesDict({k: info.features[k] for k in ("row", "label", "valid")})
    raw = builder.as_data_source(split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)
    size = len(raw)
    row, present = np.empty(size, np.int32), np.empty((size, len(names)), bool)
    label = np.empty((size, *info.features["label"].shape), info.features["label"].np_dtype)
    for block in blocks(size):
        for i, record in enumerate(raw.__getitems__([*range(size)[block]]), block.start):
            example = few.deserialize_example_np(record)
            row[i], label[i] = example["row"], example["label"]
            present[i] = [example["valid"][m].any() for m in names]
    order = np.argsort(row).astype(np.int32)  # a file written by an earlier version is shuffled
    some = {f"valid {m}": present[order, i] for i, m in enumerate(names)}
    for part in ("features", "valid"):
        for m in names:
            feature = info.features[part][m]
            kinds[f"{part} {m}"] = Kind(feature.shape, np.dtype(feature.np_dtype))

    def columns_of(rows: np.ndarray) -> dict[str, np.ndarray]:
        examples = source.__getitems__(order[rows].tolist())
        columns = {
            f"{part} {m}": np.stack([example[part][m] for example in examples])
            for part in ("features", "valid")
            for m in names
        }
        return columns | {"id": np.array([example["id"].decode() for example in examples])}

    table = Table(columns_of, len(order), kinds | {"id": Kind((), np.dtype(str))}, some)
    return batch_of(table, label[order], tuple(names), tuple(info.metadata["classes"]))


def read_split(builder: tfds.core.DatasetBuilder, split: str) -> Batch:
    """Return a whole split as arrays in the source's order, read with threads."""
    source = builder.as_data_source(split)
    loader = grain.DataLoader(
        data_source=source,
        sampler=grain.SequentialSampler(len(source), shard_options=grain.NoSharding()),
        operations=[grain.Batch(batch_size=min(256, len(source)))],
        read_options=grain.ReadOptions(num_threads=2, prefetch_buffer_size=4),
    )
    batches = list(loader)
    # Files of earlier versions have the order of hashed keys; `row` brings back the source's.
    order = np.argsort(np.concatenate([batch["row"] for batch in batches]))

    def join(pick: Callable[[dict], np.ndarray]) -> np.ndarray:
        return np.concatenate([pick(batch) for batch in batches])[order]

    def texts(name: str) -> np.ndarray:
        return np.array([text.decode() for text in join(lambda batch: batch[name])])

    def numbers(name: str) -> np.ndarray:
        # Scalars come back as Python's, which numpy would widen.
        return join(lambda batch: batch[name]).astype(builder.info.features[name].np_dtype)

    facts, talk = builder.info.metadata, None
    if "conversation" in builder.info.features:
        talk = Talk(texts("conversation"), numbers("position"), numbers("speaker"))
    names = facts["modalities"]
    return Batch(
        {name: join(lambda batch, name=name: batch["features"][name]) for name in names},
        {name: join(lambda batch, name=name: batch["valid"][name]) for name in names},
        numbers("label"),
        texts("id"),
        talk,
        tuple(facts["classes"]),
    )
