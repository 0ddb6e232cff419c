"""Training on arrays in memory, as a run does on a file."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import numpy as np

from mmdjax import tasks
from mmdjax.data import pipeline
from mmdjax.data.dataset import Dataset
from mmdjax.errors import UserError
from mmdjax.methods.method import of_name, servable
from mmdjax.methods.served import find_lengths
from mmdjax.runtime import processes
from mmdjax.serving import bundle, inputs, rows
from mmdjax.types import Batch, Talk

SMALLEST = 8  # complete utterances
FEWEST = 4  # conversations
WHERE = "features and labels"  # as messages begin


def train(
    config, features, labels, talk: rows.Talk | None, workdir, validation=0.2, seed: int = 0
) -> bundle.Bundle:
    """Train `config.method` and return its model; see `Imputer.fit`.

    Args:
      talk: where the utterances stand in conversations; None where the method sees them alone.
    """
    if not of_name(config.method).serving:
        allowed = servable()
        raise UserError(f"config.method = {config.method!r}; allowed to fit: {allowed}")
    if not 0 < validation < 1:
        raise UserError(f"validation = {validation}; allowed: above 0 and below 1")
    if processes.several() and workdir is None:
        raise UserError("workdir is missing; several processes fit in a folder they share")
    label, task = _labels(labels, config.task)
    batch = _complete(features, label)
    task.check(batch.label, WHERE, batch.id)
    split = _utterances if talk is None else _conversations
    splits = split(batch, talk, validation, np.random.default_rng([seed, 1]))
    _fill(splits)
    dataset = Dataset(splits, task, pipeline.fingerprint_of(splits))
    from mmdjax.run import train_and_publish  # the layer above, which trains whole runs

    with contextlib.ExitStack() as stack:
        folder = Path(workdir or stack.enter_context(tempfile.TemporaryDirectory()))
        return bundle.load(train_and_publish(config, dataset, folder, seed))


def _labels(labels, settings):
    """Return labels (N,) or (N, outputs) and their task.

    Args:
      labels: numbers, or names of classes. settings: `mmdjax.data.settings.Labels`.
    """
    label, kind, names = np.asarray(labels), settings.kind, settings.names
    if label.dtype.kind in "UO" and kind == "classification":
        words = [str(word) for word in label.reshape(-1)]
        names = names or tuple(sorted(set(words)))
        unknown = [word for word in words if word not in names]
        if unknown:
            raise UserError(f"labels: {unknown[0]!r}; allowed: {', '.join(names)}")
        label = np.array([names.index(word) for word in words])
    if label.dtype.kind not in "iufb":
        raise UserError(
            f"labels of dtype {label.dtype}; allowed: a number an utterance, or names of classes "
            "with config.task.kind='classification'"
        )
    if label.ndim == 2 and label.shape[1] == 1:
        label = label[:, 0]
    if not label.size or not np.isfinite(label).all():
        raise UserError(
            f"labels: {label.size}, {np.isfinite(label).sum()} of them finite; allowed: finite "
            "numbers, one or more"
        )
    low, high = None, None
    if settings.low < settings.high:
        low, high = settings.low, settings.high
    task = tasks.make(kind, low, high, names, settings.metrics, label)
    return label.astype(np.int32 if task.kind == "classification" else np.float32), task


def _complete(features, label: np.ndarray) -> Batch:
    """Return the utterances that lack nothing; ids are their numbers."""
    given = inputs.read(_shapes(features), features)
    if len(label) != len(given):
        raise UserError(
            f"labels: {len(label)}; allowed: {len(given)}, as many as there are utterances"
        )
    lengths = {m: np.asarray(n) for m, n in find_lengths(given.features, given.said).items()}
    valid = {m: np.arange(x.shape[1]) < lengths[m][:, None] for m, x in given.features.items()}
    gaps = [(np.isnan(x).any(-1) & valid[m]).any(1) for m, x in given.features.items()]
    complete = ~np.any([*gaps, *(n == 0 for n in lengths.values())], axis=0)
    if complete.sum() < SMALLEST:
        raise UserError(
            f"{complete.sum()} of {len(given)} utterances lack nothing; allowed: at least "
            f"{SMALLEST}"
        )
    ids = np.array([str(i) for i in range(len(given))])
    features = {m: np.where(valid[m][..., None], x, 0) for m, x in given.features.items()}
    return Batch(features, valid, label, ids).at(np.flatnonzero(complete))


def _shapes(features) -> list[inputs.Modality]:
    """Return the modalities of features."""
    shapes = []
    for name, x in dict(features).items():
        given = [a for a in x if a is not None] if x is not None else []
        if not len(given):
            raise UserError(f"{name}: no utterance has it; allowed: some that lack nothing")
        first = np.asarray(given[0])
        if first.ndim not in (1, 2):
            raise UserError(f"{name}: utterances of shape {first.shape}; allowed: (T, C) or (C,)")
        frames = max(len(np.atleast_2d(a)) for a in given)
        shapes.append(inputs.Modality(name, name, frames, first.shape[-1]))
    if len(shapes) < 2:
        raise UserError(f"features have {len(shapes)} modalities; allowed: at least two")
    return shapes


def _utterances(batch: Batch, talk, validation: float, rng) -> dict[str, Batch]:
    """Hold out utterances at random."""
    order = rng.permutation(len(batch))
    held = max(2, round(validation * len(batch)))
    return {"train": batch.at(order[held:]), "valid": batch.at(order[:held])}


def _conversations(batch: Batch, talk: rows.Talk, validation: float, rng) -> dict[str, Batch]:
    """Hold out conversations at random; those of a split stand one after the other."""
    for m, x in batch.features.items():
        if x.shape[1] != 1:
            raise UserError(f"{m}: {x.shape[1]} frames; allowed: (N, C), a vector an utterance")
    kept, count = batch.id.astype(int), len(talk.names)
    conversation, position = talk.conversation[kept], talk.position[kept]
    order = rng.permutation(count)
    held = np.isin(conversation, order[: max(2, round(validation * count))])
    if count < FEWEST or not held.any() or held.all():
        raise UserError(f"{count} conversations; allowed: at least {FEWEST} with whole utterances")
    where = Talk(conversation.astype(str), position, talk.speaker[kept])
    batch = Batch(batch.features, batch.valid, batch.label, batch.id, where)
    in_order = np.lexsort((position, conversation))
    train, valid = in_order[~held[in_order]], in_order[held[in_order]]
    return {"train": batch.at(train), "valid": batch.at(valid)}


def _fill(splits: dict[str, Batch]) -> None:
    """Replace -inf, a known defect of openSMILE's files, in place by the training mean."""
    for name, x in splits["train"].features.items():
        if not any(np.isneginf(batch.features[name]).any() for batch in splits.values()):
            continue
        known = np.isfinite(x) & splits["train"].valid[name][..., None]
        mean = np.where(known, x, 0.0).sum((0, 1)) / np.maximum(known.sum((0, 1)), 1)
        for batch in splits.values():
            x = batch.features[name]
            np.copyto(x, mean.astype(x.dtype), where=np.isneginf(x))
