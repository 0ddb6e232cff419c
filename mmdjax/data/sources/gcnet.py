"""Reads conversations from GCNet's folder (see `formats/gcnet_folder.py`), or from one `.npz`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from mmdjax.data.conversations import positions_of, speakers_of
from mmdjax.data.formats import gcnet_folder
from mmdjax.data.formats.contents import Part, open_contents
from mmdjax.data.formats.lazy import is_ragged, listed, quoted, refused
from mmdjax.types import Batch, Talk

HELD_OUT = 10  # without a validation split, every tenth training conversation


def read(
    path: str,
    modalities: Mapping[str, str],
    tell: Callable[[str], object] = lambda line: None,
) -> dict[str, Batch]:
    """Read the three splits, each conversation in one of them, one frame a modality.

    A vector of zeros is a missing one, and its utterance is left out.

    Args:
      path: the folder, its pickle, or an `.npz` with arrays over utterances: `id`, `conversation`
        (or `video`), `split` (0 train, 1 valid, 2 test), `label`, perhaps `position` and `speaker`,
        and (U, C) of each modality.
      modalities: the file's name of a feature -> ours; order is kept.
      tell: takes what a user should know, a line each.

    Raises:
      UserError: naming file and utterance: the file is not as described, a feature is missing, has
        another width or is not finite, an utterance or conversation stands in two splits, a
        conversation is empty, or a label is no number.
    """
    if Path(path).suffix == ".npz":
        contents = open_contents(path, "npz")
    else:
        contents = gcnet_folder.open_path(Path(path), modalities)
    with contents:
        splits = {
            split: _batch(contents.path, part, modalities)
            for split, part in contents.splits.items()
        }
    if not {"train", "test"} <= set(splits):
        raise refused(path, f"splits {listed(splits)}", "train, valid and test")
    if "valid" not in splits:  # IEMOCAP's
        conversation = splits["train"].talk.conversation
        held_out = np.isin(conversation, np.unique(conversation)[::HELD_OUT])
        splits["valid"] = splits["train"].at(np.flatnonzero(held_out))
        splits["train"] = splits["train"].at(np.flatnonzero(~held_out))
    splits = {split: splits[split] for split in ("train", "valid", "test")}
    for split, batch in splits.items():
        whole = np.all([x.any((1, 2)) for x in batch.features.values()], axis=0)
        if not whole.all():
            count = f"{(~whole).sum()} of {len(batch)}"
            tell(f"{path}: split {split!r}: {count} utterances lack something: left out")
            splits[split] = batch.at(np.flatnonzero(whole))
    _check(path, splits)
    return splits


def _batch(path: Path, part: Part, modalities: Mapping[str, str]) -> Batch:
    """Return a split, conversations together and their utterances in order."""
    if not part.talk:
        raise refused(path, "no array 'conversation' or 'video'", "a name for each utterance")
    if part.label is None or part.label.ndim > 1:
        problem = "no array 'label'" if part.label is None else f"labels of {part.label.shape}"
        raise refused(path, problem, "a number for each utterance")
    conversation = part.talk["conversation"]
    position = np.asarray(part.talk.get("position", positions_of(conversation)), np.float32)
    speaker = speakers_of(conversation, part.talk.get("speaker", np.zeros(len(part))))
    features = {name: _vectors(path, part, key, name) for key, name in modalities.items()}
    valid = {name: np.ones(x.shape[:2], bool) for name, x in features.items()}
    talk = Talk(conversation, position, speaker)
    rows = np.lexsort((position, conversation))
    return Batch(features, valid, part.label, part.id, talk).at(rows)


def _vectors(path: Path, part: Part, key: str, name: str) -> np.ndarray:
    """Return (U, 1, C) float32 of one modality."""
    if key not in part.features:
        raise refused(path, f"no array {quoted(key)}", listed(part.features))
    rows = part.features[key]
    if is_ragged(rows):
        for row in np.flatnonzero(rows.lengths == 0):
            folder = path if path.is_dir() else path.parent
            problem = f"utterance {str(part.id[row])!r} has no {name} features"
            raise refused(folder / "features" / key / f"{part.id[row]}.npy", problem, "the file")
    longest = max(rows.lengths) if is_ragged(rows) else rows.shape[1]
    if longest != 1:
        problem = f"key {quoted(key)} has utterances of {longest} frames"
        raise refused(path, problem, "a vector (C,) an utterance")
    with np.errstate(over="ignore"):
        return np.asarray(rows[0 : len(rows)]).astype(np.float32)


def _check(path: str, splits: Mapping[str, Batch]) -> None:
    """Raise `UserError` for numbers that are not finite, or splits that overlap."""
    seen: dict[str, str] = {}
    for split, batch in splits.items():
        if not len(batch):
            raise refused(path, f"split {split!r} is empty", "at least one utterance")
        ids = batch.id.tolist()
        for i in np.flatnonzero(~np.isfinite(batch.label)):
            problem = f"utterance {ids[i]!r}: label {batch.label[i]}"
            raise refused(path, problem, "a finite number")
        for name, x in batch.features.items():
            for i in np.flatnonzero(~np.isfinite(x).all((1, 2))):
                problem = f"utterance {ids[i]!r}, {name}: a number that is not finite"
                raise refused(path, problem, "finite numbers")
        conversations = dict.fromkeys(batch.talk.conversation.tolist())
        names = [f"conversation {name!r}" for name in conversations]
        for name in names + [f"utterance {id!r}" for id in ids]:
            if name in seen:
                problem = f"{name} in splits {seen[name]!r} and {split!r}"
                raise refused(path, problem, "once")
            seen[name] = split
