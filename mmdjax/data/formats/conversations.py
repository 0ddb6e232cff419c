"""Conversations in one pickle, as DialogueRNN, MMGCN, COGMEN, COSMIC and SDT unpack them.

A tuple of dicts from a conversation to a list over its utterances, and of collections of names of
conversations, in one of `TUPLES`. Or the dict of bc-LSTM: `text_train` (videos, utterances, C),
`train_mask`, `train_label` and so on. A row is an utterance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmdjax.data.formats import budget, folders, gcnet_folder, values
from mmdjax.data.formats.contents import Contents
from mmdjax.data.formats.lazy import Rows as AnyRows
from mmdjax.data.formats.lazy import listed, one_line, refused
from mmdjax.data.formats.places import Place, Rows, count, numbers, open_rows

_SPLITS = ("train", "valid", "test")
_BOTH = ("train", "test")
_BESIDE = ("ids", "speakers", "labels", "sentences", "other")
# The order in which the public loaders unpack a file; 'other' is left out: of MELD its sentiment.
_IEMOCAP = "ids speakers labels text audio visual sentences train test"
_SDT = "ids speakers labels text roberta2 roberta3 roberta4 audio visual sentences train test"
_ROBERTA = "roberta1 roberta2 roberta3 roberta4 sentences train test valid"
TUPLES = (
    _IEMOCAP,  # DialogueRNN, MMGCN, MM-DFN, COGMEN
    f"{_IEMOCAP} other",  # MELD of MMGCN and MM-DFN
    "ids speakers labels text audio sentences train test other",  # MELD of DialogueRNN
    "ids speakers labels text audio visual sentences train valid test",  # MOSEI of COGMEN
    f"speakers labels {_ROBERTA}",  # IEMOCAP of COSMIC
    f"speakers labels other {_ROBERTA}",  # MELD of COSMIC
    _SDT,
    f"{_SDT} other",  # MELD of SDT
    "speakers labels text audio visual train test",
)
_MOST_LABELS = 16  # numbers of an utterance: a vector of more is a feature


def names_of_tuple(tree: Sequence) -> tuple[str, ...]:
    """Return what the elements of a tuple are, () where it is none of `TUPLES`."""
    for order in TUPLES:
        names = tuple(order.split())
        kinds = [isinstance(element, dict) for element in tree]
        if kinds == [name not in _SPLITS for name in names]:
            elements = dict(zip(names, tree, strict=True))
            label = _first(elements["labels"])
            if values.array_of(label).size <= _MOST_LABELS and all(
                numbers(_first(elements[key])) is not None
                for key in names
                if key.startswith("roberta")
            ):
                return names
    return ()


def _first(column: Mapping) -> Any:
    """Return what a column says of its first utterance, None if it says nothing."""
    return next((rows[0] for rows in column.values() if count(rows)), None)


def open_tuple(
    path: Path, layout: str, tree: Sequence, dump: Callable[[Path, Any], None]
) -> Contents:
    """Open a tuple for which `names_of_tuple` has names.

    Raises:
      UserError: naming the conversation: lists that do not fit, labels that are no numbers.
    """
    names = names_of_tuple(tree)
    place = {name: number for number, name in enumerate(names)}
    columns = {name: tree[place[name]] for name in names if name not in _SPLITS}
    keys, notes = _features(columns)
    if "other" in place:
        number = place["other"] + 1
        notes += (f"element {number} of {len(names)} is left out (of MELD, its sentiment)",)
    ids = _ids(columns)
    speakers = {name: _words(rows) for name, rows in columns["speakers"].items()}
    splits = {}
    for split in _SPLITS:
        if split not in place:
            continue
        where = f"{path}: split {split!r}"
        said = gcnet_folder.utterances(where, ids, columns["labels"], speakers, tree[place[split]])
        id, labels, talk = said
        rows = list(zip(talk["conversation"].tolist(), talk["position"].tolist(), strict=True))
        places = {}
        for key in keys:
            of_file = {values.text(name): name for name in columns[key]}
            places[key] = [(place[key], of_file.get(name, name), at) for name, at in rows]
            _check(where, key, columns[key], talk["conversation"], of_file)
        label = values.label_of(f"{where}: labels", labels, len(id))
        talk |= {"position": talk["position"].astype(np.float32)}
        splits[split] = Rows(id, label, places, talk)

    def beside(split: str, key: str, rows: AnyRows) -> dict[Place, object]:
        """Stand in the dict of the modality, where loaders do not look: they ask for names."""
        owner = folders.owner(key, keys)
        by_conversation: dict[Place, list] = {}
        for (number, name, _), row in zip(splits[split].places[owner], rows, strict=True):
            by_conversation.setdefault((number, key, name), []).append(np.asarray(row))
        return by_conversation

    return open_rows(path, layout, tree, splits, beside, dump, notes)


def _features(columns: Mapping[str, Mapping]) -> tuple[list[str], tuple[str, ...]]:
    """Return the keys that hold numbers, and notes on those that do not."""
    keys, notes = [], []
    for key, column in columns.items():
        if key in _BESIDE:
            continue
        if numbers(_first(column)) is None:
            notes.append(f"{key} holds no numbers: left out")
        else:
            keys.append(key)
    return keys, tuple(notes)


def _check(
    where: str, key: str, column: Mapping, conversations: np.ndarray, of_file: Mapping
) -> None:
    """Raise `UserError` for a conversation with more or fewer rows than utterances."""
    for name, utterances in zip(*np.unique(conversations, return_counts=True), strict=True):
        rows = count(column.get(of_file.get(str(name))))
        if rows not in (0, utterances):  # none at all: missing
            at = f"{where}: conversation {one_line(name, 60)!r}: {key}"
            raise refused(at, f"has {rows} rows", f"{utterances}, as it has utterances")


def _ids(columns: Mapping[str, Mapping]) -> dict:
    """Return conversation -> names of its utterances, which no two share.

    MELD's are numbers within a conversation, and some files have none.
    """
    column = columns.get("ids")
    if column is None:
        column = {name: range(count(rows)) for name, rows in columns["labels"].items()}
        column = {name: list(rows) for name, rows in column.items()}
    words = [values.text(id) for rows in column.values() if count(rows) for id in rows]
    if len(set(words)) == len(words):
        return dict(column)
    return {
        name: [f"{values.text(name)}_{values.text(id)}" for id in rows] if count(rows) else rows
        for name, rows in column.items()
    }


def _words(rows: Any) -> Any:
    """Return speakers of utterances; of one-hot vectors, the number of the one."""
    vectors = [values.array_of(x) for x in rows] if count(rows) else []
    if not vectors or not all(x.ndim == 1 and len(x) > 1 for x in vectors):
        return rows
    return [str(int(np.argmax(x))) if np.any(x) else "" for x in vectors]


def modalities_of_videos(tree: Mapping) -> list[str]:
    """Return the modalities of bc-LSTM's dict of padded videos; [] of any other dict."""
    if not all(isinstance(tree.get(f"{split}_mask"), np.ndarray) for split in _BOTH):
        return []
    names = [key for key in tree if isinstance(key, str) and key.endswith("_train")]
    keys = [key.removesuffix("_train") for key in names]
    return [
        key for key in keys if all(len(values.shape_of(tree.get(f"{key}_{s}"))) == 3 for s in _BOTH)
    ]


def open_videos(
    path: Path, layout: str, tree: Mapping, dump: Callable[[Path, Any], None]
) -> Contents:
    """Open a dict for which `modalities_of_videos` has names.

    Raises:
      UserError: naming the split: a mask or labels that do not fit.
    """
    keys, splits = modalities_of_videos(tree), {}
    for split in _BOTH:
        where, mask = f"{path}: split {split!r}", tree[f"{split}_mask"]
        shapes = {key: tuple(tree[f"{key}_{split}"].shape[:2]) for key in keys}
        label = values.array_of(tree.get(f"{split}_label"))
        budget.spend(where, f"{mask.size} utterances", 4 * budget.ROW * int(np.count_nonzero(mask)))
        if {mask.shape, *shapes.values(), label.shape[:2]} != {mask.shape} or mask.ndim != 2:
            problem = f"{split}_mask {mask.shape} for {listed(keys)} and {split}_label"
            raise refused(where, problem, "(videos, utterances) of all")
        video, at = np.nonzero(mask)
        label = label[video, at]
        label = label.argmax(-1) if label.ndim == 2 and label.shape[1] > 1 else label
        talk = {"conversation": np.array([f"{split}/{v}" for v in video.tolist()], str)}
        talk |= {"position": at.astype(np.float32)}
        id = [f"{split}/{v}_{i}" for v, i in zip(video.tolist(), at.tolist(), strict=True)]
        rows = list(zip(video.tolist(), at.tolist(), strict=True))
        places = {key: [(f"{key}_{split}", *row) for row in rows] for key in keys}
        label = values.label_of(f"{where}: labels", label, len(id))
        splits[split] = Rows(id, label, places, talk)

    def beside(split: str, key: str, rows: AnyRows) -> dict[Place, object]:
        return {(f"{split}_{key}",): np.stack([np.asarray(row) for row in rows])}

    return open_rows(path, layout, tree, splits, beside, dump)
