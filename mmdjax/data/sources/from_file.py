"""Training data from a file or folder of any layout that `contents.open_contents` knows.

Utterances that lack something are left out: what a model is trained on and tested with has to be
whole, gaps being drawn at random. Where a file has no splits they are drawn at random, and where it
has no validation split, a tenth of the training utterances makes one; utterances of one recording
stay together in both.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from mmdjax.data.formats import lazy
from mmdjax.data.formats.contents import Contents, Part, open_contents, part_rows
from mmdjax.data.formats.lazy import one_line
from mmdjax.data.formats.values import by_rows
from mmdjax.data.sources.recordings import divided, recordings_of
from mmdjax.errors import UserError
from mmdjax.types import Batch

NAMES = {
    "train": ("train", "training", "trn"),
    "valid": ("valid", "validation", "val", "dev"),
    "test": ("test", "testing", "tst"),
}
SHARES = {"train": 0.7, "valid": 0.1, "test": 0.2}  # of a file without splits
HELD_OUT = 10


class Rows(NamedTuple):
    """N utterances as they are in a file.

    Attributes:
      features: modality -> (N, T, C) float32, 0 from an utterance's end, -inf still in it.
      lengths: modality -> (N,) frames. whole: (N,) bool, nothing is missing, the label neither.
      label: (N,) float32. id, recording: (N,) str.
    """

    features: dict[str, np.ndarray]
    lengths: dict[str, np.ndarray]
    whole: np.ndarray
    label: np.ndarray
    id: np.ndarray
    recording: np.ndarray

    def at(self, rows: np.ndarray) -> Rows:
        features, lengths = ({m: a[rows] for m, a in tree.items()} for tree in self[:2])
        return Rows(features, lengths, *(a[rows] for a in self[2:]))


def read(
    path: str,
    modalities: Mapping[str, str],
    layout: str = "",
    seed: int = 0,
    tell: Callable[[str], object] = lambda line: None,
) -> dict[str, Batch]:
    """The three splits.

    Of an array without lengths, frames up to the last that is not zero exist, and as many as in any
    other such modality of as many frames. Entries of -inf become the mean of their column over the
    training split. Of labels of several numbers the first counts.

    Args:
      modalities: key in the file, or range of channels 'X[0:20]' -> our name; order is kept.
      layout: see `open_contents`. seed: of splits that the file lacks. tell: takes what a user
        should know, a line each.

    Raises:
      UserError: naming file, split and key: no such key, no labels, numbers that are not finite,
        or a split without utterances that lack nothing.
    """
    with open_contents(path, layout) as contents:
        where = one_line(contents.path, 4096)
        found = {}
        for line in contents.notes:
            tell(f"{where}: {line}")
        for split, part in _named(where, contents, tell).items():
            at = f"{where}: split {one_line(split, 64)!r}"
            found[split] = _whole(at, _rows(at, part, modalities, tell), tell)
    for split in sorted(found.keys() - {"all", "train"}):
        shared = sorted(set(found[split].id.tolist()) & set(found["train"].id.tolist()))
        if shared:
            name = one_line(shared[0], 60)
            tell(f"{where}: {len(shared)} ids are in train and {split}, such as {name!r}: leakage")
    splits = _three(where, found, seed, tell)
    _fill(splits)
    return _batches(where, splits)


def _whole(where: str, rows: Rows, tell) -> Rows:
    """Those that lack nothing."""
    kept, count = np.flatnonzero(rows.whole), len(rows.whole)
    if not len(kept):
        raise UserError(
            f"{where}: all of {count} utterances lack something; allowed: some with all modalities "
            "and a label (--mode=inspect says what is missing)"
        )
    if len(kept) < count:
        tell(f"{where}: {count - len(kept)} of {count} utterances lack something: left out")
    return rows.at(kept)


def _named(where: str, contents: Contents, tell) -> dict[str, Part]:
    """By our names of splits; 'all' where the file has none."""
    found = {}
    for split, part in contents.splits.items():
        name = next((ours for ours, names in NAMES.items() if split.lower() in names), None)
        if name and name not in found:
            found[name] = part
        elif len(contents.splits) > 1:
            tell(f"{where}: split {one_line(split, 64)!r}: left out")
    if len(contents.splits) == 1:
        return {"all": next(iter(contents.splits.values()))}
    if not {"train", "test"} <= set(found):
        known = ", ".join(repr(one_line(split, 40)) for split in contents.splits)
        raise UserError(
            f"{where}: splits {known}; allowed: train and test, perhaps valid, or one of any name"
        )
    return found


def _three(where: str, found: dict[str, Rows], seed: int, tell) -> dict[str, Rows]:
    """Training, validation and test, drawn at random where the file does not say."""
    rng = np.random.default_rng([seed, 2])
    if "all" in found:
        whole, made = found["all"], {}
        for name, rows in divided(where, whole.recording, SHARES, rng).items():
            made[name] = whole.at(rows)
        sizes = ", ".join(f"{name} {len(part.id)}" for name, part in made.items())
        count = len(set(whole.recording.tolist()))
        by = (
            f"{count} recordings" if count < len(whole.id) else "utterances: ids name no recordings"
        )
        tell(f"{where}: one split alone, divided at random ({sizes}) by {by}")
        return made
    if "valid" not in found:
        shares = {"valid": 1 / HELD_OUT, "train": 1 - 1 / HELD_OUT}
        whole = found["train"]
        made = divided(where, whole.recording, shares, rng)
        found = found | {name: whole.at(rows) for name, rows in made.items()}
        size = len(found["valid"].id)
        tell(f"{where}: has no validation split: {size} training utterances make one")
    return {name: found[name] for name in NAMES}


def _rows(where: str, part: Part, modalities: Mapping[str, str], tell) -> Rows:
    if part.label is None:
        raise UserError(f"{where}: no labels; allowed: a file with them, a number an utterance")
    label, several = by_rows(part.label)[:, 0], by_rows(part.label).shape[1]
    if several > 1:
        tell(f"{where}: labels of {several} numbers: the first counts")
    known = label[np.isfinite(label)]
    if len(known) and (known >= 0).all() and (known == known.round()).all():
        tell(
            f"{where}: labels look like classes and are taken as numbers; for classes give "
            "config.task.kind=classification"
        )
    features, lengths, seen, whole = {}, {}, {}, np.isfinite(label)
    for key, name in modalities.items():
        at = f"{where}: key {one_line(key, 60)!r}"
        try:
            rows = part_rows(part, key)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        base = key if key in part.features else key.rpartition("[")[0]
        said = part.frames.get(base)
        features[name], lengths[name] = _column(at, part, rows)
        lengths[name] = lengths[name] if said is None else np.asarray(said)
        seen[name] = part.observed.get(base)
    alike: dict[int, list[str]] = {}
    for key, name in modalities.items():
        if part.frames.get(key if key in part.features else key.rpartition("[")[0]) is None:
            alike.setdefault(features[name].shape[1], []).append(name)
    for names in alike.values():
        longest = np.max([lengths[m] for m in names], axis=0)
        lengths |= dict.fromkeys(names, longest)
    for m, x in features.items():
        exists = np.arange(x.shape[1]) < lengths[m][:, None]
        gaps = np.isnan(x).any(-1)
        if seen[m] is not None:
            gaps[:, : x.shape[1]] |= ~np.broadcast_to(seen[m].reshape(len(x), -1), gaps.shape)
        x[~exists] = 0
        whole &= ~(gaps & exists).any(1) & (x != 0).any((1, 2))
    # An id of odd bytes or half a character is written as what stands for them.
    names = [name.encode(errors="backslashreplace").decode() for name in part.id.tolist()]
    id = np.array(names, str)
    recording = part.talk.get("conversation", recordings_of(id))
    return Rows(features, lengths, whole, label.astype(np.float32), id, recording.astype(str))


def _column(where: str, part: Part, rows) -> tuple[np.ndarray, np.ndarray]:
    """(N, T, C) float32, and (N,) the frames up to the last that is not zero, 0 where none is."""
    ragged = lazy.is_ragged(rows)
    longest = int(rows.lengths.max(initial=1)) if ragged else rows.shape[1]
    size = 4 * len(rows) * longest * rows.shape[2]
    most = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    if size > most:
        raise UserError(
            f"{where}: padded to its longest utterance, {longest} frames, it takes "
            f"{size / 2**30:.0f} GiB; allowed: {most / 2**30:.0f}, half of the machine's memory"
        )
    x = np.zeros((len(rows), longest, rows.shape[2]), np.float32)
    for start, stop in lazy.blocks(rows):
        block = rows[start:stop]
        with np.errstate(over="ignore", invalid="ignore"):
            for row, one in enumerate(block, start):
                x[row, : len(one)] = one
        infinite = np.isposinf(x[start:stop]).any((1, 2))
        if infinite.any():
            name = one_line(part.id[start + np.argmax(infinite)], 60)
            raise UserError(
                f"{where}: utterance {name!r} holds inf; allowed: float32 numbers, NaN where "
                "something is missing"
            )
    some = (x != 0).any(-1)
    return x, np.where(some.any(1), longest - some[:, ::-1].argmax(1), 0)


def _fill(splits: dict[str, Rows]) -> None:
    """Replaces -inf, a known defect of openSMILE's files, in place, by the training mean."""
    for m, x in splits["train"].features.items():
        gaps = {split: np.isneginf(rows.features[m]) for split, rows in splits.items()}
        if not any(gap.any() for gap in gaps.values()):
            continue
        known = np.arange(x.shape[1]) < splits["train"].lengths[m][:, None]
        known = known[..., None] & np.isfinite(x)
        total = np.where(known, x, 0).sum((0, 1), dtype=np.float64)
        mean = (total / np.maximum(known.sum((0, 1)), 1)).astype(np.float32)
        for split, gap in gaps.items():
            np.copyto(splits[split].features[m], mean, where=gap)


def _batches(where: str, splits: dict[str, Rows]) -> dict[str, Batch]:
    """Padded to the longest of all splits."""
    shapes, made = {}, {}
    for split, rows in splits.items():
        shapes[split] = {m: x.shape for m, x in rows.features.items()}
    for split, rows in splits.items():
        features, valid = {}, {}
        for m, x in rows.features.items():
            if x.shape[2] != shapes["train"][m][2]:
                raise UserError(
                    f"{where}: {split}: {m} has {x.shape[2]} channels; allowed: "
                    f"{shapes['train'][m][2]}, as in training"
                )
            more = max(shape[m][1] for shape in shapes.values()) - x.shape[1]
            features[m] = np.pad(x, ((0, 0), (0, more), (0, 0))) if more else x
            valid[m] = np.arange(features[m].shape[1]) < rows.lengths[m][:, None]
        made[split] = Batch(features, valid, rows.label, rows.id)
    return made
