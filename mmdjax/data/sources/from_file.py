"""Training data from a file or folder of any layout that `contents.open_contents` knows.

Utterances that lack modalities, frames or the label are kept: what they have is learned from and
measured. Where a file has no splits they are drawn at random, and where it has no validation split,
a tenth of the training utterances makes one; utterances of one recording stay together in both.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mmdjax.data.conversations import check_apart, positions_of, speakers_of
from mmdjax.data.formats import lazy
from mmdjax.data.formats.contents import Contents, Part, column_range, open_contents, part_rows
from mmdjax.data.formats.lazy import listed, one_line, quoted, refused
from mmdjax.data.formats.values import last_frames
from mmdjax.errors import UserError
from mmdjax.types import Batch, Talk, known_labels

NAMES = {
    "train": ("train", "training", "trn"),
    "valid": ("valid", "validation", "val", "dev"),
    "test": ("test", "testing", "tst"),
}
SHARES = {"train": 0.7, "valid": 0.1, "test": 0.2}  # of a file without splits
HELD_OUT = {"valid": 0.1, "train": 0.9}  # of the training split, where there is none for validation
# What follows the name of a recording in the ids of its utterances: CMU's 'v[3]', MMSA's 'v$_$3'.
_CLIP = re.compile(r"(\[\d+\]|\$_\$.*)$", re.DOTALL)
# The same in many other sets, 'v_3', 'dia0_utt3', 'Ses01F_impro01_F003': if it leaves several.
_NUMBER = re.compile(r"_(utt)?[A-Za-z]?\d+$")


def read(
    path: str,
    modalities: Mapping[str, str],
    layout: str = "",
    seed: int = 0,
    tell: Callable[[str], object] = lambda line: None,
) -> dict[str, Batch]:
    """Read the three splits.

    Of an array without lengths, frames up to the last that is not zero exist, and as many as in any
    other such modality of as many frames. Entries of -inf become the mean of their column over the
    training split.

    Args:
      modalities: key in the file, or range of channels 'X[0:20]' -> our name; order is kept.
      layout: see `open_contents`. seed: of splits that the file lacks. tell: takes what a user
        should know, a line each.

    Raises:
      UserError: naming file, split and key: no such key, no labels, numbers that are not finite,
        a split in which no utterance has a modality, or a conversation in two splits.
    """
    with open_contents(path, layout) as contents:
        where, batches, recordings = one_line(contents.path, 4096), {}, {}
        for note in contents.notes:
            tell(f"{where}: {note}")
        for split, part in _named(where, contents, tell).items():
            at = f"{where}: split {quoted(split, 64)}"
            batches[split], recordings[split] = _batch(at, part, modalities, tell)
    check_apart(where, batches)
    for split in sorted(batches.keys() - {"all", "train"}):
        if shared := sorted(set(batches[split].id.tolist()) & set(batches["train"].id.tolist())):
            example = quoted(shared[0])
            tell(f"{where}: {len(shared)} ids are in train and {split}, such as {example}: leakage")
    rng = np.random.default_rng([seed, 2])
    kind = np.result_type(*(batch.label.dtype for batch in batches.values()))
    kind = kind if kind == np.int32 else np.dtype(np.float32)
    for split, batch in batches.items():
        batches[split] = dataclasses.replace(batch, label=batch.label.astype(kind))
    batches = _padded(where, _three(where, batches, recordings, rng, tell))
    for modality in modalities.values():
        fill(batches, modality)
    return batches


def _named(where: str, contents: Contents, tell: Callable[[str], object]) -> dict[str, Part]:
    """Return parts by our names of splits; 'all' where the file has none."""
    if len(contents.splits) == 1:
        return {"all": next(iter(contents.splits.values()))}
    parts = {}
    for split, part in contents.splits.items():
        name = next((ours for ours, names in NAMES.items() if split.lower() in names), None)
        if name and name not in parts:
            parts[name] = part
        else:
            tell(f"{where}: split {quoted(split, 64)}: left out")
    if not {"train", "test"} <= set(parts):
        problem = f"splits {listed(contents.splits)}"
        raise refused(where, problem, "train and test, perhaps valid, or one of any name")
    return parts


def _batch(
    where: str, part: Part, modalities: Mapping[str, str], tell: Callable[[str], object]
) -> tuple:
    """Return the utterances that have something, -inf still in them, and their recordings (N,)."""
    if part.label is None:
        raise refused(where, "no labels", "a file with them, NaN where an utterance has none")
    label = part.label
    if label.dtype.kind == "f":
        label = np.where(np.isinf(label), np.float32(np.nan), label)
    label = label[:, 0] if label.ndim > 1 and label.shape[1] == 1 else label
    features, lengths = {}, {}
    alike: dict[int, list[str]] = {}  # modalities of as many frames whose lengths the file lacks
    for key, name in modalities.items():
        try:
            base, rows = column_range(part, key)[0], part_rows(part, key)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        features[name] = _column(f"{where}: key {quoted(key)}", part, rows)
        if base in part.frames:
            lengths[name] = np.asarray(part.frames[base])
        else:
            lengths[name] = last_frames(features[name])
            alike.setdefault(features[name].shape[1], []).append(name)
    for names in alike.values():
        lengths |= dict.fromkeys(names, np.max([lengths[m] for m in names], axis=0))
    valid = {m: np.arange(x.shape[1]) < lengths[m][:, None] for m, x in features.items()}
    for key, name in modalities.items():
        x, observed = features[name], part.observed.get(column_range(part, key)[0])
        gaps = np.isnan(x).all(-1)  # a frame with some number is filled later, see `data.entries`
        if observed is not None:
            gaps |= ~np.broadcast_to(observed.reshape(len(x), -1), gaps.shape)
        valid[name] &= ~gaps
        x[~valid[name]] = 0
        valid[name] &= (np.nan_to_num(x) != 0).any((1, 2))[:, None]
        x[~valid[name]] = 0
        if not valid[name].any():
            problem = f"no utterance of {len(x)} has {quoted(key)}"
            raise refused(where, problem, "keys of which some have something")
    # An id of odd bytes or half a character is written as what stands for them.
    names = [name.encode(errors="backslashreplace").decode() for name in part.id.tolist()]
    id = np.array(names, str)
    recording = part.talk.get("conversation", recordings_of(id)).astype(str)
    talk, order = None, np.arange(len(id))
    if part.talk:
        position = np.asarray(part.talk.get("position", positions_of(recording)), np.float32)
        speaker = speakers_of(recording, part.talk.get("speaker", np.zeros(len(id))))
        talk, order = Talk(recording, position, speaker), np.lexsort((position, recording))
    batch = Batch(features, valid, label, id, talk, part.classes)
    some = batch.present.any(1)
    if not some.all():
        tell(f"{where}: {(~some).sum()} of {len(id)} utterances have no modality: left out")
    rows = order[some[order]]
    batch = batch.at(rows)
    _tell_gaps(where, batch, tell)
    return batch, recording[rows]


def _tell_gaps(where: str, batch: Batch, tell: Callable[[str], object]) -> None:
    """Tell what utterances lack, where some lack something."""
    size, present = len(batch), batch.present
    lacking = [
        f"{size - count} lack {name}"
        for name, count in zip(batch.modalities, present.sum(0), strict=True)
        if count < size
    ]
    if unlabelled := int((~known_labels(batch.label)).sum()):
        lacking.append(f"{unlabelled} have no label")
    if lacking:
        tell(f"{where}: of {size} utterances {', '.join(lacking)}; all are used")
    for i, j in itertools.combinations(range(present.shape[1]), 2):
        if not (present[:, i] & present[:, j]).any():
            pair = f"{batch.modalities[i]} and {batch.modalities[j]}"
            tell(f"{where}: no utterance has {pair} together: how they depend cannot be learned")


def _column(where: str, part: Part, rows: Any) -> np.ndarray:
    """Return (N, T, C) float32, padded with zeros to the longest utterance."""
    longest = int(rows.lengths.max(initial=1)) if lazy.is_ragged(rows) else rows.shape[1]
    size = 4 * len(rows) * longest * rows.shape[2]
    most = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    if size > most:
        padded = f"padded to its longest utterance, {longest} frames"
        allowed = f"{most / 2**30:.0f}, half of the machine's memory"
        raise refused(where, f"{padded}, it takes {size / 2**30:.0f} GiB", allowed)
    x = np.zeros((len(rows), longest, rows.shape[2]), np.float32)
    for start, stop in lazy.blocks(rows):
        with np.errstate(over="ignore", invalid="ignore"):
            for row, frames in enumerate(rows[start:stop], start):
                x[row, : len(frames)] = frames
        for row in np.flatnonzero(np.isposinf(x[start:stop]).any((1, 2))):
            problem = f"utterance {quoted(part.id[start + row])} holds inf"
            raise refused(where, problem, "float32 numbers, NaN where something is missing")
    return x


def _three(
    where: str,
    batches: dict[str, Batch],
    recordings: dict[str, np.ndarray],
    rng: np.random.Generator,
    tell: Callable[[str], object],
) -> dict[str, Batch]:
    """Return training, validation and test, drawn at random where the file does not say."""

    def divide(split: str, shares: Mapping[str, float]) -> dict[str, Batch]:
        rows = divided(where, recordings[split], shares, rng)
        return {name: batches[split].at(index) for name, index in rows.items()}

    if "all" in batches:
        parts = divide("all", SHARES)
        sizes = ", ".join(f"{split} {len(batch)}" for split, batch in parts.items())
        count = len(set(recordings["all"].tolist()))
        named = count < len(batches["all"])
        by = f"{count} recordings" if named else "utterances: ids name no recordings"
        tell(f"{where}: one split alone, divided at random ({sizes}) by {by}")
        return parts
    if "valid" not in batches:
        batches = batches | divide("train", HELD_OUT)
        size = len(batches["valid"])
        tell(f"{where}: has no validation split: {size} training utterances make one")
    return {split: batches[split] for split in NAMES}


def _padded(where: str, batches: dict[str, Batch]) -> dict[str, Batch]:
    """Return batches of as many frames as the longest of all splits."""
    padded = {}
    for split, batch in batches.items():
        features, valid = dict(batch.features), dict(batch.valid)
        for m, x in features.items():
            channels = batches["train"].features[m].shape[2]
            if x.shape[2] != channels:
                problem = f"{split}: {m} has {x.shape[2]} channels"
                raise refused(where, problem, f"{channels}, as in training")
            more = max(other.features[m].shape[1] for other in batches.values()) - x.shape[1]
            if more:
                features[m] = np.pad(x, ((0, 0), (0, more), (0, 0)))
                valid[m] = np.pad(valid[m], ((0, 0), (0, more)))
        padded[split] = dataclasses.replace(batch, features=features, valid=valid)
    return padded


def recordings_of(ids: np.ndarray) -> np.ndarray:
    """Return (N,) str, the recordings that ids (N,) name, or the ids if they name none."""
    names = np.array([_CLIP.sub("", name) for name in ids.tolist()], str)
    if (names != ids).any():
        return names
    names = np.array([_NUMBER.sub("", name) for name in ids.tolist()], str)
    return names if 3 <= len(set(names.tolist())) < len(ids) else ids


def divided(
    where: str, recording: np.ndarray, shares: Mapping[str, float], rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Draw the rows of each part at random by recording; every part has one.

    Args:
      where: of the data, for messages. recording: (N,) str. shares: part -> share, 1 in all.

    Raises:
      UserError: fewer recordings than parts.
    """
    names, code = np.unique(recording, return_inverse=True)
    count, parts = len(names), len(shares)
    if count < parts:
        problem = f"{count} recordings to be divided into {', '.join(shares)}"
        raise refused(where, problem, f"at least {parts}, or a file with splits")
    ends: list[int] = []
    for place, total in enumerate(np.cumsum(list(shares.values()))):
        least, most = ends[-1] + 1 if ends else 1, count - (parts - 1 - place)
        ends.append(int(np.clip(round(total * count), least, most)))
    part_of = np.searchsorted(ends, rng.permutation(count)[code], side="right")
    return {name: np.flatnonzero(part_of == i) for i, name in enumerate(shares)}


def fill(batches: Mapping[str, Batch], modality: str) -> dict[str, int]:
    """Replace -inf, in place, by the mean of its column over the training split's valid frames.

    A column without a finite training entry becomes zero.

    Returns:
      split -> entries that were replaced, where there were some.
    """
    counts = {}
    for split, batch in batches.items():
        x = batch.features[modality]
        counts[split] = sum(int(np.isneginf(x[a:b]).sum()) for a, b in lazy.blocks(x))
    counts = {split: count for split, count in counts.items() if count}
    if counts:
        x, valid = batches["train"].features[modality], batches["train"].valid[modality]
        total, known = np.zeros((2, x.shape[2]))
        for a, b in lazy.blocks(x):
            finite = valid[a:b, :, None] & np.isfinite(x[a:b])
            total += np.where(finite, x[a:b], 0).sum((0, 1), dtype=np.float64)
            known += finite.sum((0, 1))
        mean = (total / np.maximum(known, 1)).astype(np.float32)
    for split in counts:
        x = batches[split].features[modality]
        for a, b in lazy.blocks(x):
            np.copyto(x[a:b], mean, where=np.isneginf(x[a:b]))
    return counts
