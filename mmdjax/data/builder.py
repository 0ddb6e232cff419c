"""A tensorflow-datasets builder over any source, and its reader through grain."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path

import grain.python as grain
import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from mmdjax.runtime.files import locked
from mmdjax.types import Batch, Talk


class Utterances(tfds.core.GeneratorBasedBuilder):
    """Utterances of several modalities, one example each: features, frames, label, id."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, source: str, fingerprint: str, splits, data_dir: Path):
        # Shapes are part of the description that tfds asks for while it is constructed.
        self.name = source
        self._batches = splits
        config = tfds.core.BuilderConfig(name=fingerprint, version=self.VERSION)
        super().__init__(data_dir=data_dir, config=config, file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        train = self._batches["train"]

        def of_row(array: np.ndarray) -> tfds.features.Tensor:
            return tfds.features.Tensor(shape=array.shape[1:], dtype=array.dtype)

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

    def _split_generators(self, dl_manager):
        return {split: self._examples(batch) for split, batch in self._batches.items()}

    def _generate_examples(self):
        raise AssertionError("the splits bring their own generators")

    def _examples(self, batch: Batch):
        for row in range(len(batch)):
            example = {
                "features": {name: x[row] for name, x in batch.features.items()},
                "valid": {name: v[row] for name, v in batch.valid.items()},
                "label": batch.label[row],
                "id": str(batch.id[row]),
                "row": row,
            }
            if batch.talk:
                example |= {name: a[row] for name, a in batch.talk._asdict().items()}
                example["conversation"] = str(example["conversation"])
            yield row, example


def prepare(source: str, fingerprint: str, read: Callable[[], dict[str, Batch]], data_dir: Path):
    """Return a builder whose files exist in data_dir / source / fingerprint; `read` runs if needed.

    tfds writes into a temporary folder and renames it, so an interrupted call leaves nothing.
    """
    folder = data_dir / source / fingerprint / "1.0.0"
    if not folder.exists():
        tfds.disable_progress_bar()
        # Several processes of a run, or several runs, may want it at once: one makes it.
        with locked(data_dir / ".lock", wait=True):
            if not folder.exists():
                splits = read()
                with _quiet():
                    Utterances(source, fingerprint, splits, data_dir).download_and_prepare()
    return tfds.builder_from_directory(folder)


@contextlib.contextmanager
def _quiet():
    """Hide that tfds announces a download (there is none) and warns of our own configuration."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(before)


def read_split(builder, split: str) -> Batch:
    """Return a whole split as arrays in the source's order, read with threads."""
    source = builder.as_data_source(split)
    loader = grain.DataLoader(
        data_source=source,
        sampler=grain.SequentialSampler(len(source), shard_options=grain.NoSharding()),
        operations=[grain.Batch(batch_size=min(256, len(source)))],
        read_options=grain.ReadOptions(num_threads=2, prefetch_buffer_size=4),
    )
    batches = list(loader)
    # tfds stores examples in the order of their hashed keys; `row` brings back the source's.
    order = np.argsort(np.concatenate([batch["row"] for batch in batches]))

    def join(pick):
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
