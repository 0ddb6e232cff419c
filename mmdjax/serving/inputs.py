"""What users give, as padded arrays: which frames exist, and which of them are observed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mmdjax.errors import UserError


class Modality(NamedTuple):
    """name; key: its name in files; frames: the most, T_m; channels: C_m."""

    name: str
    key: str
    frames: int
    channels: int


class Given(NamedTuple):
    """N utterances. By modality: features (N, T_m, C_m) float32, NaN in frames that are not
    observed; said (N,) int32, frames that exist, -1 to find out (`path.find_lengths`)."""

    features: dict[str, np.ndarray]
    said: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(next(iter(self.said.values())))


def read(modalities: Sequence[Modality], features, observed=None) -> Given:
    """Checked and padded.

    Args:
      features: modality (its name, or its key in files) -> (N, T, C_m) with T up to T_m, (N, C_m)
        for T_m = 1, or N arrays (T_i, C_m), None for one that is missing; None, or no entry, for a
        modality that all lack. A frame that holds NaN counts as missing, and so does an utterance
        that is zero throughout; -inf, a known defect of openSMILE's files, counts as its column's
        training mean.
      observed: modality -> (N,) or (N, T) bool, or (N, M) for all; what it denies is not read.

    Of an array the frames up to the last that is not zero exist, and as many as in any other array
    of as many frames, as in training; of a list all do.

    Raises:
      UserError: names modality and utterance.
    """
    features = _by_name(modalities, features)
    sizes = {m: len(x) for m, x in features.items() if x is not None}
    if not sizes:
        raise UserError(f"no modality is given; allowed: one or more of {_names(modalities)}")
    rows = next(iter(sizes.values()))
    if not rows:
        raise UserError("0 utterances are given; allowed: at least one")
    for m, size in sizes.items():
        if size != rows:
            first = next(iter(sizes))
            raise UserError(f"{m}: {size} utterances; allowed: {rows}, as {first} has")
    asked, something = _observed(modalities, observed, rows), np.zeros(rows, bool)
    values, said = {}, {}
    for m in modalities:
        x, said[m.name] = _modality(m, features.get(m.name), rows)
        if m.name in asked:
            x[~_asked(m, asked[m.name], rows)] = np.nan
        values[m.name] = x
        shown = ~np.isnan(x).any(-1)
        something |= (shown & (x != 0).any(-1)).any(1)
    if not something.all():
        raise UserError(
            f"utterance {np.argmin(something)} has nothing observed; allowed: at least one frame "
            f"of one of {_names(modalities)}"
        )
    return Given(values, said)


def _by_name(modalities, features) -> dict:
    if not isinstance(features, Mapping):
        raise UserError(
            f"features are a {type(features).__name__}; allowed: a dict from modality "
            f"({_names(modalities)}) to arrays"
        )
    names = {m.key: m.name for m in modalities} | {m.name: m.name for m in modalities}
    found: dict = {}
    for key, x in features.items():
        if key not in names:
            raise UserError(f"modality {key!r} is unknown; allowed: {_names(modalities)}")
        if names[key] in found:
            raise UserError(f"modality {names[key]!r} is given twice, as {key!r} too")
        found[names[key]] = x
    return found


def _names(modalities) -> str:
    return ", ".join(m.name if m.key == m.name else f"{m.name} ({m.key})" for m in modalities)


def _observed(modalities, observed, rows: int) -> dict:
    if observed is None:
        return {}
    if isinstance(observed, Mapping):
        return _by_name(modalities, observed)
    table = np.asarray(observed)
    if table.shape != (rows, len(modalities)) or table.dtype != bool:
        raise UserError(
            f"observed has shape {table.shape} and dtype {table.dtype}; allowed: a dict by "
            f"modality, or ({rows}, {len(modalities)}) bool"
        )
    return {m.name: table[:, i] for i, m in enumerate(modalities)}


def _modality(m: Modality, given, rows: int):
    """Features (N, T_m, C_m), NaN where missing, and lengths."""
    x = np.full((rows, m.frames, m.channels), np.nan, np.float32)
    lengths = np.full(rows, -1, np.int32)
    if given is None:
        return x, lengths
    if isinstance(given, np.ndarray) and given.dtype != object:
        _fill_array(m, given, x, rows)
    else:
        _fill_list(m, given, x, lengths)
    if np.isposinf(x).any():
        row, frame, column = np.argwhere(np.isposinf(x))[0]
        raise UserError(
            f"{m.name}: utterance {row}, frame {frame}, column {column} is infinite in float32; "
            "allowed: float32 numbers, NaN for a missing frame"
        )
    return x, lengths


def _fill_array(m: Modality, given: np.ndarray, x: np.ndarray, rows: int) -> None:
    if given.ndim == 2 and m.frames == 1:
        given = given[:, None]
    fits = given.ndim == 3 and given.shape[2] == m.channels and given.shape[1] <= m.frames
    if not fits or given.dtype.kind not in "fiu":
        raise UserError(
            f"{m.name}: an array of shape {given.shape} and dtype {given.dtype}; allowed: numbers "
            f"({rows}, at most {m.frames}, {m.channels})"
        )
    x[:] = 0
    with np.errstate(over="ignore"):
        x[:, : given.shape[1]] = given


def _fill_list(m: Modality, given, x: np.ndarray, lengths: np.ndarray) -> None:
    for row, one in enumerate(given):
        if one is None:
            continue
        one = np.asarray(one)
        if one.ndim == 1 and m.frames == 1:
            one = one[None]
        fits = one.ndim == 2 and one.shape[1] == m.channels and one.shape[0] <= m.frames
        if not fits or one.dtype.kind not in "fiu":
            raise UserError(
                f"{m.name}: utterance {row} has shape {one.shape} and dtype {one.dtype}; allowed: "
                f"numbers (at most {m.frames}, {m.channels}), or None"
            )
        x[row] = 0
        with np.errstate(over="ignore"):
            x[row, : len(one)] = one
        lengths[row] = len(one)


def _asked(m: Modality, asked, rows: int) -> np.ndarray:
    asked = np.asarray(asked)
    if asked.dtype != bool or asked.shape[:1] != (rows,) or asked.ndim > 2:
        raise UserError(
            f"observed, {m.name}: shape {asked.shape} and dtype {asked.dtype}; allowed: ({rows},) "
            f"or ({rows}, at most {m.frames}) bool"
        )
    if asked.ndim == 1:
        return np.repeat(asked[:, None], m.frames, 1)
    if asked.shape[1] > m.frames:
        raise UserError(f"observed, {m.name}: {asked.shape[1]} frames; allowed: at most {m.frames}")
    return np.pad(asked, ((0, 0), (0, m.frames - asked.shape[1])))
