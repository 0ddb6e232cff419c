"""Training on arrays in memory, as a run does on a file."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mmdjax import tasks
from mmdjax.config import Config
from mmdjax.config.resolve import main_system
from mmdjax.config.sizes import sized
from mmdjax.data import entries, pipeline
from mmdjax.data.dataset import Dataset
from mmdjax.data.formats.values import MISSING
from mmdjax.data.labels import chosen
from mmdjax.data.settings import Labels
from mmdjax.data.sources.from_file import fill
from mmdjax.errors import UserError, require
from mmdjax.methods.method import of_name, servable
from mmdjax.methods.reading import find_lengths, observed_frames
from mmdjax.runtime import processes
from mmdjax.runtime.progress import Reporter
from mmdjax.serving import bundle, inputs
from mmdjax.training.train import train
from mmdjax.types import Batch, Talk, known_labels
from mmdjax.workdir import opened

SMALLEST = 8  # utterances with a label
FEWEST = 4  # conversations


def fit(
    config: Config,
    features: Mapping[str, Any],
    labels: Any,
    talk: Talk | None,
    workdir: str | Path | None,
    validation: float = 0.2,
    seed: int = 0,
    verbose: bool = True,
) -> bundle.Bundle:
    """Train `config.method` and return its model; see `Imputer.fit`.

    Args:
      talk: where the utterances stand in conversations; None where the method sees them alone.
    """
    if not of_name(config.method).serving:
        raise UserError(f"config.method = {config.method!r}; allowed to fit: {servable()}")
    require(0 < validation < 1, f"validation = {validation}", "above 0 and below 1")
    if processes.several() and workdir is None:
        raise UserError("workdir is missing; several processes fit in a folder they share")
    require(isinstance(features, Mapping), f"features are a {type(features).__name__}", "a dict")
    features = {name: inputs.as_array(column) for name, column in features.items()}
    label, task = _labels(inputs.as_array(labels), config.task)
    known, size = known_labels(label).sum(), len(label)
    require(known >= SMALLEST, f"labels: {known} of {size} known", f"at least {SMALLEST}")
    batch = _batch(features, label)
    task.check(batch.label, "features and labels", batch.id)
    splits = _split(batch, talk, validation, np.random.default_rng([seed, 1]))
    for m in batch.features:
        fill(splits, m)
    splits = entries.filled(splits)
    task = task.fitted(splits["train"].label)
    dataset = Dataset(splits, task, pipeline.fingerprint_of(splits))
    config = sized(config, dataset)
    system = main_system(config)
    system.method.check(system.config)
    with contextlib.ExitStack() as stack:
        folder = Path(workdir or stack.enter_context(tempfile.TemporaryDirectory()))
        places = stack.enter_context(opened(folder, config, dataset.content))
        reporter, target = Reporter(folder / "tensorboard"), folder / "model" / f"seed_{seed}"
        reporter.console.quiet |= not verbose
        method = system.method(system.config, dataset, reporter)
        trained = train(method, seed, places.phase(config, seed))
        bundle.publish(method, trained.params, seed, target, dataset.content)
        reporter.close()
        processes.meet("model")
        return bundle.load(target)


def _labels(labels: Any, settings: Labels) -> tuple[np.ndarray, tasks.Task]:
    """Return labels (N,) or (N, outputs) and their task.

    Args:
      labels: numbers, or names of classes. settings: `mmdjax.data.settings.Labels`.
    """
    label, kind, names = np.asarray(labels), settings.kind, settings.names
    if label.dtype.kind in "UO" and kind == "classification":
        words = ["" if word is None or word != word else str(word) for word in label.reshape(-1)]
        names = names or tuple(sorted(set(words) - MISSING))
        for word in words:
            require(word in names or word in MISSING, f"labels: {word!r}", ", ".join(names))
        label = np.array([names.index(w) if w in names else np.nan for w in words])
    require(
        label.dtype.kind in "iufb",
        f"labels of dtype {label.dtype}",
        "a number an utterance, or names of classes with config.task.kind='classification'",
    )
    if label.ndim == 2 and label.shape[1] == 1:
        label = label[:, 0]
    if settings.columns or settings.strengths:
        label = chosen("labels: ", label, settings)
    size = len(label)
    known = known_labels(label).sum() if size else 0
    require(known, f"labels: 0 of {size} known", f"at least {SMALLEST}")
    low, high = (settings.low, settings.high) if settings.low < settings.high else (None, None)
    task = tasks.make(kind, low, high, names, settings.metrics, label)
    whole = task.kind == "classification" and known == size
    return label.astype(np.int32 if whole else np.float32), task


def _batch(features: Mapping[str, Any], label: np.ndarray) -> Batch:
    """Return the utterances that have some modality; ids are their numbers."""
    given = inputs.read(_modalities(features), features)
    size = len(given)
    require(len(label) == size, f"labels: {len(label)}", f"{size}, as many as there are utterances")
    lengths = find_lengths(given.features, given.said)
    valid = {m: np.asarray(v) for m, v in observed_frames(given.features, lengths).items()}
    values = {m: np.where(v[..., None], given.features[m], 0) for m, v in valid.items()}
    for m, v in valid.items():
        require(v.any(), f"{m}: no utterance has it", "some that have something of each")
    batch = Batch(values, valid, label, np.array([str(i) for i in range(size)]))
    return batch.at(np.flatnonzero(batch.present.any(1)))


def _modalities(features: Mapping[str, Any]) -> list[inputs.Modality]:
    """Return the modalities that features have."""
    modalities = []
    for name, column in features.items():
        values = [] if column is None else [np.asarray(x) for x in column if x is not None]
        require(values, f"{name}: no utterance has it", "some that have something of each")
        shape = values[0].shape
        require(len(shape) in (1, 2), f"{name}: utterances of shape {shape}", "(T, C) or (C,)")
        frames = max(len(np.atleast_2d(x)) for x in values)
        modalities.append(inputs.Modality(name, name, frames, shape[-1]))
    count = len(modalities)
    require(count >= 2, f"features have {count} modalities", "at least two")
    return modalities


def _split(
    batch: Batch, talk: Talk | None, validation: float, rng: np.random.Generator
) -> dict[str, Batch]:
    """Hold out utterances at random, or conversations, which then stand one after the other."""
    if talk is None:
        # The share of those with a label: intervals and the choice of a model need them.
        rows, known = rng.permutation(len(batch)), known_labels(batch.label)
        of_kind = (rows[known[rows]], rows[~known[rows]])
        held = [max(2 if i == 0 else 0, round(validation * len(r))) for i, r in enumerate(of_kind)]
        parts = [(r[h:], r[:h]) for r, h in zip(of_kind, held, strict=True)]
        train, valid = (np.concatenate(part) for part in zip(*parts, strict=True))
        return {"train": batch.at(train), "valid": batch.at(valid)}
    for m, x in batch.features.items():
        frames = x.shape[1]
        require(frames == 1, f"{m}: {frames} frames", "(N, C), a vector an utterance")
    numbers = {name: number for number, name in enumerate(dict.fromkeys(talk.conversation))}
    complete, count = batch.id.astype(int), len(numbers)
    conversation = np.array([numbers[name] for name in talk.conversation[complete]])
    position = talk.position[complete]
    chosen = rng.permutation(count)[: max(2, round(validation * count))]
    held = np.isin(conversation, chosen)
    fits = count >= FEWEST and held.any() and not held.all()
    known = known_labels(batch.label)
    fits = fits and known[held].any() and known[~held].any()
    require(fits, f"{count} conversations", f"at least {FEWEST}, with labels in both parts")
    where = Talk(conversation.astype(str), position, talk.speaker[complete])
    batch, order = dataclasses.replace(batch, talk=where), np.lexsort((position, conversation))
    return {"train": batch.at(order[~held[order]]), "valid": batch.at(order[held[order]])}
