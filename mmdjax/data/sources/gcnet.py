"""Reads conversations in GCNet's layout (Lian et al., 2023), or from one `.npz`.

GCNet's layout is a pickle and, beside it, `features/<name>/<utterance>.npy`, a vector each. The
pickle holds (videoIDs, videoLabels, videoSpeakers, videoSentences, trainVids, valVids, testVids):
four dicts from a conversation to a list over its utterances, and three collections of names of
conversations; IEMOCAP's has no valVids. Nothing that the pickle names runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from mmdjax.data.conversations import Conversations, numbered, positions_of, speakers_of
from mmdjax.data.formats import safe_pickle
from mmdjax.data.sources.mmsa import SPLITS
from mmdjax.errors import UserError

HELD_OUT = 10  # without a validation split, every tenth training conversation


def read(
    path: str,
    modalities: Mapping[str, str],
    tell: Callable[[str], object] = lambda line: None,
) -> dict[str, Conversations]:
    """The three splits, each conversation in one of them. A vector of zeros is a missing one, and
    its utterance is left out.

    Args:
      path: the pickle, or an `.npz` with arrays over utterances: `id`, `conversation` (or `video`),
        `split` (0 train, 1 valid, 2 test), `label`, perhaps `position` and `speaker`, and (U, C) of
        each modality.
      modalities: the file's name of a feature -> ours; order is kept.
      tell: takes what a user should know, a line each.

    Raises:
      UserError: naming file and utterance: the file is not as described, a feature is missing, has
        another width or is not finite, an utterance or conversation stands in two splits, a
        conversation is empty, or a label is no number.
    """
    reader = _npz if str(path).endswith(".npz") else _pickle
    splits = reader(path, modalities)
    for split, part in splits.items():
        there = np.all([x.any(-1) for x in part.features.values()], axis=0)
        if not there.all():
            count = f"{(~there).sum()} of {len(part)}"
            tell(f"{path}: split {split!r}: {count} utterances lack something: left out")
            splits[split] = part.at(np.flatnonzero(there))
    check(str(path), splits)
    return splits


def check(path: str, splits: Mapping[str, Conversations]) -> None:
    """Raise `UserError` for numbers that are not finite, or splits that overlap."""
    seen: dict[str, str] = {}
    for split, part in splits.items():
        if not len(part):
            raise UserError(f"{path}: split {split!r} is empty; allowed: at least one utterance")
        label, ids = part.label, part.id.tolist()
        for i in np.flatnonzero(~np.isfinite(label)):
            raise UserError(
                f"{path}: utterance {ids[i]!r}: label {label[i]}; allowed: a finite number"
            )
        for name, x in part.features.items():
            for i in np.flatnonzero(~np.isfinite(x).all(-1)):
                raise UserError(
                    f"{path}: utterance {ids[i]!r}, {name}: a number that is not finite; "
                    "allowed: finite numbers"
                )
        conversations = sorted(set(part.conversation.tolist()))
        for kind, names in (("conversation", conversations), ("utterance", ids)):
            for one in names:
                what = f"{kind} {one!r}"
                if what in seen:
                    raise UserError(
                        f"{path}: {what} in splits {seen[what]!r} and {split!r}; allowed: once"
                    )
                seen[what] = split


def _pickle(path: str, modalities: Mapping[str, str]) -> dict[str, Conversations]:
    tree = safe_pickle.load(path)
    described = "GCNet's tuple of 4 dicts over conversations and 3 (or 2) collections of names"
    fits = isinstance(tree, tuple | list) and len(tree) in (6, 7)
    if not (fits and all(isinstance(part, dict) for part in tree[:4])):
        raise UserError(f"{path}: not the layout of GCNet; allowed: {described}")
    ids, labels, speakers = tree[:3]
    named = [sorted(part) for part in tree[4:]]
    if len(named) == 2:  # IEMOCAP's
        train, test = named
        named = [[c for i, c in enumerate(train) if i % HELD_OUT], train[::HELD_OUT], test]
    folder = Path(path).parent / "features"
    return {
        split: _conversations(path, folder, chosen, ids, labels, speakers, modalities)
        for split, chosen in zip(SPLITS, named, strict=True)
    }


def _conversations(path, folder, chosen, ids, labels, speakers, modalities) -> Conversations:
    rows: dict[str, list] = {"id": [], "label": [], "conversation": [], "position": []}
    rows["speaker"] = []
    for one in chosen:
        lengths = {len(part.get(one, ())) for part in (ids, labels, speakers)}
        if lengths == {0}:
            raise UserError(
                f"{path}: conversation {one!r} has no utterances; allowed: at least one"
            )
        if len(lengths) > 1:
            raise UserError(
                f"{path}: conversation {one!r} has {len(ids.get(one, ()))} utterances, "
                f"{len(labels.get(one, ()))} labels and {len(speakers.get(one, ()))} speakers; "
                "allowed: as many of each"
            )
        rows["id"] += [str(name) for name in ids[one]]
        rows["label"] += list(labels[one])
        rows["conversation"] += [str(one)] * len(ids[one])
        rows["position"] += range(len(ids[one]))
        rows["speaker"] += numbered(list(map(str, speakers[one])))
    features = {name: _vectors(folder / key, rows["id"], name) for key, name in modalities.items()}
    return Conversations(
        features,
        _labels(path, rows["label"], rows["id"]),
        np.asarray(rows["id"], str),
        np.asarray(rows["conversation"], str),
        np.asarray(rows["position"], np.float32),
        np.asarray(rows["speaker"], np.int32),
    )


def _labels(path, labels: Sequence, ids: Sequence[str]) -> np.ndarray:
    """(U,) float32; raises `UserError` for what is not a number."""
    for one, label in zip(ids, labels, strict=True):
        if not isinstance(label, int | float | np.integer | np.floating):
            raise UserError(f"{path}: utterance {str(one)!r}: label {label!r}; allowed: a number")
    return np.asarray(labels, np.float32)


def _vectors(folder: Path, utterances: Sequence[str], name: str) -> np.ndarray:
    """(U, C) of one modality, a file an utterance."""
    if not folder.is_dir():
        found = sorted(p.name for p in folder.parent.glob("*/")) if folder.parent.is_dir() else []
        raise UserError(f"{str(folder)!r} is not a folder of features; allowed: {found}")
    vectors = []
    for utterance in utterances:
        file = folder / f"{utterance}.npy"
        if not file.is_file():
            raise UserError(
                f"{file}: utterance {utterance!r} has no {name} features; give the file"
            )
        try:
            vector = np.load(file, allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise UserError(
                f"{file}: utterance {utterance!r}: not a .npy array ({error})"
            ) from None
        width = vectors[0].shape[0] if vectors else vector.size
        if vector.shape != (width,) or vector.dtype.kind not in "fiu":
            raise UserError(
                f"{file}: utterance {utterance!r}: {name} of shape {vector.shape} and dtype "
                f"{vector.dtype}; allowed: ({width},) numbers, as the first utterance has"
            )
        vectors.append(vector.astype(np.float32))
    return np.stack(vectors) if vectors else np.zeros((0, 1), np.float32)


def _npz(path: str, modalities: Mapping[str, str]) -> dict[str, Conversations]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: not an .npz of plain arrays ({error})") from None
    found = sorted(arrays)
    arrays.setdefault("conversation", arrays.get("video"))
    for needed in ("id", "conversation", "split", "label", *modalities):
        if arrays.get(needed) is None:
            name = "'conversation' or 'video'" if needed == "conversation" else repr(needed)
            raise UserError(f"{path}: no array {name}; allowed: {found}")
        if len(arrays[needed]) != len(arrays["id"]):
            raise UserError(
                f"{path}: {needed!r} has {len(arrays[needed])} rows; allowed: "
                f"{len(arrays['id'])}, as 'id' has"
            )
    for key in modalities:
        if arrays[key].ndim != 2 or arrays[key].dtype.kind not in "fiu":
            raise UserError(
                f"{path}: {key!r} has shape {arrays[key].shape}; allowed: (utterances, channels)"
            )
    ids, conversation = arrays["id"].astype(str), arrays["conversation"].astype(str)
    position = arrays.get("position", positions_of(conversation)).astype(np.float32)
    speaker = speakers_of(conversation, arrays.get("speaker", np.zeros(len(ids))))
    splits = {}
    for number, split in enumerate(SPLITS):
        rows = np.flatnonzero(arrays["split"] == number)
        rows = rows[np.lexsort((position[rows], conversation[rows]))]
        features = {name: arrays[key][rows].astype(np.float32) for key, name in modalities.items()}
        label = _labels(path, arrays["label"][rows], ids[rows])
        about = (ids, conversation, position, speaker)
        splits[split] = Conversations(features, label, *(a[rows] for a in about))
    return splits
