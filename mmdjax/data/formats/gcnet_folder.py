"""GCNet's folder (Lian et al., 2023): a pickle, and features/<name>/<utterance>.npy beside it.

The pickle is a tuple (videoIDs, videoLabels, videoSpeakers, videoSentences, trainVids, valVids,
testVids): four dicts from a conversation to a list over its utterances, and three collections of
names of conversations; IEMOCAP's has no valVids. A row is an utterance.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from mmdjax.data.formats import budget, folder, folders, pickle_process, values
from mmdjax.data.formats.contents import Changes, Contents
from mmdjax.data.formats.lazy import listed, quoted, refused

ALLOWED = "GCNet's tuple of 4 dicts over conversations and 3 (or 2) collections of their names"


def open_path(path: Path, keys: Iterable[str] = ()) -> Contents:
    """Open a folder, or the pickle in it.

    Args:
      keys: of features; all that are there by default.

    Raises:
      UserError: not as described.
    """
    if not path.is_dir():
        return open_pickle(path, pickle_process.load(path), None, keys)
    pickles = [x for x in sorted(path.iterdir()) if x.suffix in (".pkl", ".pickle") and x.is_file()]
    if len(pickles) != 1:
        problem = f"pickles {listed(x.name for x in pickles)}"
        raise refused(path, problem, "one, or give the path of one")
    return open_pickle(pickles[0], pickle_process.load(pickles[0]), path, keys)


def open_pickle(
    path: Path, tree: Any, root: Path | None = None, keys: Iterable[str] = ()
) -> Contents:
    """Open the pickle, whose content is `tree`, or the folder `root` that holds it."""
    if not fits(tree):
        raise refused(path, "not the layout of GCNet", ALLOWED)
    features = path.parent / "features"
    known = folder.modality_folders(features) if features.is_dir() else []
    if not known:
        raise refused(path, "no features", "features/<name>/<utterance>.npy beside it")
    for key in keys:
        if key not in known:
            raise refused(path, f"no features {quoted(key)}", listed(known))
    parts, notes = {}, ()
    splits = ("train", "valid", "test") if len(tree) == 7 else ("train", "test")
    with budget.of(path, features):
        for split, conversations in zip(splits, tree[4:], strict=True):
            where = f"{path}: split {split!r}"
            ids, labels, talk = utterances(where, *tree[:3], conversations)
            files, names = {}, [folders.plain_name(where, id) for id in ids]
            for key in keys or known:
                paths = [f"{features}/{key}/{name}.npy" for name in names]
                files[key] = [path if os.path.exists(path) else None for path in paths]
            label = values.label_of(f"{where}: labels", labels, len(ids))
            part, missing = folder.part_of_files(where, files, ids, label)
            parts[split] = dataclasses.replace(part, talk=talk)
            notes += missing

    def write(output: Path, replaced: Changes, added: Changes) -> None:
        if root is not None:
            folders.copy(root, output)
        elif output.resolve().is_relative_to(features.resolve()):
            raise refused(path, "the output is inside its features", "another folder")
        else:
            output.mkdir()
            folders.copy(path, output / path.name)
            folders.copy(features, output / "features")
        folder.write_files(path, output / "features", parts, replaced, added)

    return Contents(root or path, "gcnet", parts, write, notes)


def fits(tree: object) -> bool:
    """Return whether a pickle's content is GCNet's tuple."""
    return (
        isinstance(tree, (tuple, list))
        and len(tree) in (6, 7)
        and all(isinstance(by_conversation, dict) for by_conversation in tree[:4])
    )


def utterances(
    where: str, ids: dict, labels: dict, speakers: dict, conversations: Any
) -> tuple[list[str], list, dict[str, np.ndarray]]:
    """Return names and labels of a split's utterances, conversation by conversation in order, and
    `Part.talk`."""
    if not isinstance(conversations, (set, frozenset, dict)) and not _is_sequence(conversations):
        raise refused(where, f"a {type(conversations).__name__}", "a collection of names")
    ids, labels, speakers = (
        {values.text(name): items for name, items in by_name.items()}
        for by_name in (ids, labels, speakers)
    )
    all_ids: list[str] = []
    all_labels: list = []
    talk: dict[str, list] = {"conversation": [], "speaker": [], "position": []}
    names = sorted(values.text(name) or "" for name in conversations)
    for name, after in itertools.pairwise([*names, None]):
        if name == after:
            raise refused(where, f"conversation {quoted(name)} is there twice", "each once")
        turns, its_labels = ids.get(name), labels.get(name)
        at = f"{where}: conversation {quoted(name)}"
        if not (_is_sequence(turns) and _is_sequence(its_labels)):
            raise refused(at, "no list of utterances or of labels", "a list of each")
        count = len(turns)
        if len(its_labels) != count:
            problem = f"has {count} utterances and {len(its_labels)} labels"
            raise refused(at, problem, "as many of each")
        if not count:
            raise refused(at, "has no utterances", "at least one")
        its_speakers = speakers.get(name)
        its_speakers = list(its_speakers) if _is_sequence(its_speakers) else [""] * count
        its_ids = values.names_of(at, list(turns), count)
        for id, label in zip(its_ids, its_labels, strict=True):
            if isinstance(label, (str, bytes)):
                problem = f"utterance {quoted(id)}: label {quoted(label)}"
                raise refused(where, problem, "a number")
        all_ids += its_ids
        all_labels += list(its_labels)
        talk["speaker"] += values.names_of(f"{at}: speakers", its_speakers, count)
        talk["conversation"] += [name] * count
        talk["position"] += range(count)
    if not all_ids:
        raise refused(where, "no utterances", "conversations with utterances")
    position = np.array(talk.pop("position"))
    names = {name: budget.words(where, column) for name, column in talk.items()}
    return all_ids, all_labels, names | {"position": position}


def _is_sequence(value: object) -> bool:
    return isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim > 0)
