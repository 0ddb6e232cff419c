"""Training data from a file or folder of any layout that `contents.open_contents` knows.

Utterances that lack something are left out: what a model is trained on and tested with has to be
whole, gaps being drawn at random. Where a file has no splits they are drawn at random, and where it
has no validation split, a tenth of the training utterances makes one; utterances of one recording
stay together in both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from mmdjax.data import lazy
from mmdjax.data.contents import Contents, Part, open_contents, part_rows
from mmdjax.data.layouts.values import by_rows
from mmdjax.data.lazy import one_line
from mmdjax.errors import UserError
from mmdjax.types import Batch

NAMES = {
    "train": ("train", "training", "trn"),
    "valid": ("valid", "validation", "val", "dev"),
    "test": ("test", "testing", "tst"),
}
SHARES = {"train": 0.7, "valid": 0.1, "test": 0.2}  # of a file without splits
HELD_OUT = 10
# What follows the name of a recording in the ids of its utterances: CMU's 'v[3]', MMSA's 'v$_$3'.
_CLIP = re.compile(r"(\[\d+\]|\$_\$.*)$", re.DOTALL)


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
      UserError: naming file, split and key: no such key, no labels or such out of [-3, 3], numbers
        that are not finite, or a split without utterances that lack nothing.
    """
    with open_contents(path, layout) as contents:
        where = one_line(contents.path, 4096)
        found = {}
        for split, part in _named(where, contents, tell).items():
            at = f"{where}: split {one_line(split, 64)!r}"
            found[split] = _whole(at, _rows(at, part, modalities), tell)
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
        parts = _divided(where, found["all"], SHARES, rng)
        sizes = ", ".join(f"{name} {len(part.id)}" for name, part in parts.items())
        tell(f"{where}: has no splits: drawn at random by recording ({sizes})")
        return parts
    if "valid" not in found:
        shares = {"valid": 1 / HELD_OUT, "train": 1 - 1 / HELD_OUT}
        found = found | _divided(where, found["train"], shares, rng)
        size = len(found["valid"].id)
        tell(f"{where}: has no validation split: {size} training utterances make one")
    return {name: found[name] for name in NAMES}


def _divided(where: str, rows: Rows, shares: Mapping[str, float], rng) -> dict[str, Rows]:
    """By recordings, at random; every part has one."""
    recordings, code = np.unique(rows.recording, return_inverse=True)
    if len(recordings) < len(shares):
        raise UserError(
            f"{where}: {len(recordings)} recordings to be divided into {', '.join(shares)}; "
            f"allowed: at least {len(shares)}, or a file with splits"
        )
    place = rng.permutation(len(recordings))
    cuts = np.round(np.cumsum(list(shares.values())) * len(recordings)).astype(int)
    cuts = np.maximum(cuts, np.arange(1, len(cuts) + 1))
    cuts = np.minimum(cuts, len(recordings) - np.arange(len(cuts))[::-1])
    part_of = np.searchsorted(cuts, place[code], side="right")
    return {name: rows.at(np.flatnonzero(part_of == i)) for i, name in enumerate(shares)}


def _rows(where: str, part: Part, modalities: Mapping[str, str]) -> Rows:
    if part.label is None:
        raise UserError(f"{where}: no labels; allowed: a file with them, a number an utterance")
    label = by_rows(part.label)[:, 0]
    for row in np.flatnonzero(np.abs(label) > 3):
        name = one_line(part.id[row], 60)
        raise UserError(
            f"{where}: utterance {name!r} has label {label[row]:g}; allowed: numbers in [-3, 3]"
        )
    features, lengths, found, whole = {}, {}, {}, np.isfinite(label)
    for key, name in modalities.items():
        at = f"{where}: key {one_line(key, 60)!r}"
        try:
            rows = part_rows(part, key)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        base = key if key in part.features else key.rpartition("[")[0]
        said = part.frames.get(base)
        features[name], found[name] = _column(at, part, rows, said)
        lengths[name] = found[name] if said is None else np.asarray(said)
        observed = part.observed.get(base)
        if observed is not None and observed.ndim == 2:
            within = np.arange(observed.shape[1]) < lengths[name][:, None]
            observed = (observed | ~within).all(1)
        whole &= (lengths[name] > 0) & (found[name] > 0) & (observed is None or observed)
    alike: dict[int, list[str]] = {}
    for key, name in modalities.items():
        if part.frames.get(key if key in part.features else key.rpartition("[")[0]) is None:
            alike.setdefault(features[name].shape[1], []).append(name)
    for names in alike.values():
        longest = np.max([lengths[m] for m in names], axis=0)
        lengths |= dict.fromkeys(names, longest)
    for m, x in features.items():
        exists = np.arange(x.shape[1]) < lengths[m][:, None]
        whole &= ~(np.isnan(x).any(-1) & exists).any(1)
        x[~exists] = 0
    id = part.id.astype(str)
    recording = part.talk.get("conversation", np.array([_CLIP.sub("", name) for name in id], str))
    return Rows(features, lengths, whole, label.astype(np.float32), id, recording.astype(str))


def _column(where: str, part: Part, rows, said) -> tuple[np.ndarray, np.ndarray]:
    """(N, T, C) float32, and (N,) the frames up to the last that is not zero, 0 where none is."""
    ragged = lazy.is_ragged(rows)
    longest = int(rows.lengths.max(initial=1)) if ragged else rows.shape[1]
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
