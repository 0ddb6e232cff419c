"""Training on arrays in memory, as a run does on a file."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import numpy as np

from mmdjax import workdir as workdirs
from mmdjax.data import pipeline
from mmdjax.data.conversations import Conversations
from mmdjax.data.sources.gcnet import check
from mmdjax.errors import UserError
from mmdjax.methods.graph_stages import GraphStages
from mmdjax.methods.graph_system import GraphSystem
from mmdjax.methods.stages import Stages
from mmdjax.methods.two_stage import TwoStage
from mmdjax.runtime import processes
from mmdjax.runtime.progress import Reporter
from mmdjax.serving import bundle, inputs
from mmdjax.serving.conversations import read_talk
from mmdjax.serving.path import find_lengths
from mmdjax.serving.publish import publish
from mmdjax.serving.publish_graph import publish_conversations
from mmdjax.types import Batch

SMALLEST = 8  # complete utterances


def train(
    config, features, labels, workdir, validation: float = 0.2, seed: int = 0
) -> bundle.Bundle:
    """See `Imputer.fit`."""
    _check(config, "two_stage", validation)
    whole = _complete(features, labels)
    order = np.random.default_rng([seed, 1]).permutation(len(whole))
    held = max(2, round(validation * len(whole)))
    splits = {"train": _rows(whole, order[held:]), "valid": _rows(whole, order[:held])}
    for name, x in splits["train"].features.items():  # -inf: see `mmsa.read`
        finite = np.where(np.isfinite(x) & splits["train"].valid[name][..., None], x, np.nan)
        mean = np.nan_to_num(np.nanmean(finite, axis=(0, 1)))
        for part in splits.values():
            np.copyto(part.features[name], mean, where=np.isneginf(part.features[name]))
    content = bundle.checksum(bundle.flatten({k: vars(b) for k, b in splits.items()}))

    def system(reporter):
        return TwoStage(config, pipeline.standardise(splits), reporter)

    return _trained(config, splits["train"], content, workdir, seed, (system, Stages, publish))


def train_conversations(
    config, features, labels, about, workdir, validation: float = 0.2, seed: int = 0
) -> bundle.Bundle:
    """See `ConversationImputer.fit`; about: of `read_talk`."""
    _check(config, "gsdnet", validation)
    whole = _complete(features, labels)
    for m, x in whole.features.items():
        if x.shape[1] != 1:
            raise UserError(f"{m}: {x.shape[1]} frames; allowed: (N, C), a vector an utterance")
    talk = read_talk(len(labels), *about)
    kept = whole.id.astype(int)
    conversation, count = talk.conversation[kept], len(talk.names)
    order = np.random.default_rng([seed, 1]).permutation(count)
    held = np.isin(conversation, order[: max(2, round(validation * count))])
    if count < 4 or not held.any() or held.all():
        raise UserError(f"{count} conversations; allowed: at least 4 with whole utterances")
    in_order = np.lexsort((talk.position[kept], conversation))
    splits = {}
    for split, rows in (("train", in_order[~held[in_order]]), ("valid", in_order[held[in_order]])):
        splits[split] = Conversations(
            {m: x[rows, 0] for m, x in whole.features.items()},
            whole.label[rows],
            whole.id[rows],
            conversation[rows].astype(str),
            talk.position[kept][rows],
            talk.speaker[kept][rows],
        )
    check("features and labels", splits, config.data.classes)
    content = pipeline.fingerprint_of(splits)

    def system(reporter):
        return GraphSystem(config, splits, reporter)

    parts = (system, GraphStages, publish_conversations)
    return _trained(config, splits["train"], content, workdir, seed, parts)


def _check(config, method: str, validation: float) -> None:
    if config.method != method or "draws" not in config.fills:
        what = f"config.method = {config.method!r}, fills = {config.fills}"
        if config.method == "gsdnet":
            raise UserError(f"{what}; allowed to fit: mmdjax.ConversationImputer, with 'draws'")
        raise UserError(f"{what}; allowed to fit: {method} with 'draws'")
    if not 0 < validation < 1:
        raise UserError(f"validation = {validation}; allowed: above 0 and below 1")


def _trained(config, raw_train, content: str, workdir, seed: int, parts) -> bundle.Bundle:
    """Trains and publishes; parts: reporter -> system, its stages, and what publishes it."""
    make_system, stages, publisher = parts
    if processes.several() and workdir is None:
        raise UserError("workdir is missing; several processes fit in a folder they share")
    with contextlib.ExitStack() as stack:
        folder = Path(workdir or stack.enter_context(tempfile.TemporaryDirectory()))
        places = stack.enter_context(workdirs.opened(folder, config, content))
        reporter = Reporter(folder / "tensorboard")
        system = make_system(reporter)
        trained = stages(system).train(seed, places.phases(config, seed))
        made = folder / "model" / f"seed_{seed}"
        publisher(system, trained, seed, raw_train, made, content)
        reporter.close()
        processes.meet("model")
        return bundle.load(made)


def _complete(features, labels) -> Batch:
    """The utterances that lack nothing."""
    try:
        labels = np.asarray(labels, np.float32).reshape(-1)
    except (TypeError, ValueError) as error:
        raise UserError(f"labels: {error}; allowed: a number an utterance") from None
    shapes = []
    for name, x in dict(features).items():
        given = [a for a in x if a is not None] if x is not None else []
        if not len(given):
            raise UserError(f"{name}: no utterance has it; allowed: some that lack nothing")
        first = np.asarray(given[0])
        if first.ndim not in (1, 2):
            raise UserError(f"{name}: utterances of shape {first.shape}; allowed: (T, C) or (C,)")
        frames = max(len(np.atleast_2d(a)) for a in given)
        width = first.shape[-1]
        shapes.append(inputs.Modality(name, name, frames, width))
    if len(shapes) < 2:
        raise UserError(f"features have {len(shapes)} modalities; allowed: at least two")
    given = inputs.read(shapes, features)
    if len(labels) != len(given) or not np.isfinite(labels).all():
        raise UserError(
            f"labels: {len(labels)}, {np.isfinite(labels).sum()} of them finite; allowed: "
            f"{len(given)} numbers, as there are utterances"
        )
    lengths = {m: np.asarray(n) for m, n in find_lengths(given.features, given.said).items()}
    valid = {m: np.arange(x.shape[1]) < lengths[m][:, None] for m, x in given.features.items()}
    gaps = [(np.isnan(x).any(-1) & valid[m]).any(1) for m, x in given.features.items()]
    complete = ~np.any([*gaps, *(n == 0 for n in lengths.values())], axis=0)
    rows = np.flatnonzero(complete)
    if len(rows) < SMALLEST:
        raise UserError(
            f"{len(rows)} of {len(given)} utterances lack nothing; allowed: at least {SMALLEST}"
        )
    names = np.array([str(i) for i in range(len(given))])
    features = {m: np.where(valid[m][..., None], x, 0) for m, x in given.features.items()}
    return _rows(Batch(features, valid, labels, names), rows)


def _rows(batch: Batch, rows: np.ndarray) -> Batch:
    features, valid = ({m: a[rows] for m, a in p.items()} for p in (batch.features, batch.valid))
    return Batch(features, valid, batch.label[rows], batch.id[rows])
