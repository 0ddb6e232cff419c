"""GCNet's folder: a pickle, and features/<name>/<utterance>.npy beside it; a row an utterance.

The pickle is a tuple (videoIDs, videoLabels, videoSpeakers, videoSentences, trainVids, valVids,
testVids); IEMOCAP's has no valVids. Conversations are `mmdjax.data.sources.gcnet`'s to read.
"""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np

from mmdjax.data.formats import copying, folder, safe_pickle, tables, values
from mmdjax.data.formats.contents import Changes, Contents
from mmdjax.data.formats.lazy import one_line
from mmdjax.errors import UserError

ALLOWED = "GCNet's tuple of 4 dicts over conversations and 3 (or 2) collections of their names"


def open_path(path: Path) -> Contents:
    """Of the folder, or of the pickle; raises `UserError` unless it is as described."""
    if path.is_dir():
        pickles = [one for end in ("pkl", "pickle") for one in sorted(path.glob(f"*.{end}"))]
        pickles = [one for one in pickles if one.is_file()]
        if len(pickles) != 1:
            found = tables.listed(one.name for one in pickles)
            where = one_line(path, 4096)
            raise UserError(f"{where}: pickles {found}; allowed: one, or give the path of one")
        return open_pickle(pickles[0], safe_pickle.load_lazily(pickles[0]), path)
    return open_pickle(path, safe_pickle.load_lazily(path))


def open_pickle(path: Path, tree, root: Path | None = None) -> Contents:
    """Of the pickle, whose content is `tree`, or of the folder `root` that holds it."""
    where = one_line(path, 4096)
    fits = isinstance(tree, (tuple, list)) and len(tree) in (6, 7)
    if not (fits and all(isinstance(one, dict) for one in tree[:4])):
        raise UserError(f"{where}: not the layout of GCNet; allowed: {ALLOWED}")
    features = path.parent / "features"
    inside = sorted(features.iterdir()) if features.is_dir() else []
    keys = [one.name for one in inside if one.is_dir() and not one.name.startswith(".")]
    keys = [key for key in keys if not key.endswith(tables.MARKS)]
    if not keys:
        raise UserError(f"{where}: no features; allowed: features/<name>/<utterance>.npy beside it")
    parts, notes = {}, ()
    names = ("train", "valid", "test") if len(tree) == 7 else ("train", "test")
    for split, chosen in zip(names, tree[4:], strict=True):
        at = f"{where}: split {split!r}"
        ids, labels, talk = _utterances(at, *tree[:3], chosen)
        files = {}
        for key in keys:
            paths = [features / key / f"{name}.npy" for name in ids]
            files[key] = [one if one.exists() else None for one in paths]
        label = values.label_of(f"{at}: labels", labels, len(ids))
        part, more = folder.part_of_files(at, files, ids, label)
        parts[split] = dataclasses.replace(part, talk=talk)
        notes += more

    def write(output: Path, replaced: Changes, added: Changes) -> None:
        if root is not None:
            copying.copy_folder(root, output)
        elif output.resolve().is_relative_to(features.resolve()):
            raise UserError(f"{where}: the output is inside its features; allowed: another folder")
        else:
            output.mkdir()
            shutil.copyfile(path, output / path.name)
            copying.copy_folder(features, output / "features")
        folder.write_files(where, output / "features", parts, replaced, added)

    return Contents(root or path, "gcnet", parts, write, notes)


def _utterances(where: str, ids: dict, labels: dict, speakers: dict, chosen):
    """Names and labels of a split's utterances, conversation by conversation in order, and
    `Part.talk`."""
    if not isinstance(chosen, (set, frozenset, dict)) and not _is_sequence(chosen):
        raise UserError(f"{where}: a {type(chosen).__name__}; allowed: a collection of names")
    ids = {values.text(one): said for one, said in ids.items()}
    labels = {values.text(one): told for one, told in labels.items()}
    speakers = {values.text(one): named for one, named in speakers.items()}
    made: list[str] = []
    told_all: list = []
    talk: dict[str, list] = {"conversation": [], "speaker": [], "position": []}
    for one in sorted(values.text(name) or "" for name in chosen):
        said, told = ids.get(one), labels.get(one)
        if not (_is_sequence(said) and _is_sequence(told)) or len(said) != len(told):
            raise UserError(
                f"{where}: conversation {one_line(one, 60)!r} has not as many labels as "
                "utterances; allowed: a list of each"
            )
        at, count = f"{where}: {one_line(one, 60)!r}", len(said)
        made += values.names_of(at, list(said), count)
        told_all += list(told)
        named = speakers.get(one)
        named = list(named) if _is_sequence(named) else [""] * count
        talk["speaker"] += values.names_of(f"{at}: speakers", named, count)
        talk["conversation"] += [one] * count
        talk["position"] += range(count)
    if not made:
        raise UserError(f"{where}: no utterances; allowed: conversations with utterances")
    for name in made:
        copying.plain_name(where, name)
    return made, told_all, {name: np.array(column) for name, column in talk.items()}


def _is_sequence(value) -> bool:
    return isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim > 0)
