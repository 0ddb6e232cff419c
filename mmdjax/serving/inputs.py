"""What users give, as padded arrays: which frames exist, and which of them are observed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from mmdjax.errors import UserError, require


class Modality(NamedTuple):
    """A modality; key: its name in files; frames: the most, T_m; channels: C_m; see `Served`."""

    name: str
    key: str
    frames: int
    channels: int
    explained: float | None = None


class Given(NamedTuple):
    """N utterances of a request.

    Attributes:
      features: modality -> (N, T_m, C_m) float32, NaN in frames that are not observed.
      said: modality -> (N,) int32, frames that exist, -1 to find out (`reading.find_lengths`).
      left_out: row -> why it cannot be answered; nothing of it is observed here.
    """

    features: dict[str, np.ndarray]
    said: dict[str, np.ndarray]
    left_out: Mapping[int, str] = MappingProxyType({})

    def __len__(self) -> int:
        return len(next(iter(self.said.values())))

    def at(self, rows: np.ndarray) -> Given:
        """Return the utterances at `rows`, of which all are answered."""
        return Given(*({m: a[rows] for m, a in tree.items()} for tree in self[:2]))

    def shows(self) -> dict[str, np.ndarray]:
        """Return modality -> (N,) bool: a number is observed that is not zero."""
        return {m: (~np.isnan(x) & (x != 0)).any((1, 2)) for m, x in self.features.items()}


def read(modalities: Sequence[Modality], features: Any, observed: Any = None) -> Given:
    """Check a request and pad it.

    Args:
      features: modality (its name, or its key in files) -> (N, T, C_m) with T up to T_m, (N, C_m)
        for T_m = 1, or N arrays (T_i, C_m), None for one that is missing; None, or no entry, for a
        modality that all lack. Arrays are numpy's, or what pandas, xarray, torch or JAX hold. A
        number that is NaN, or masked in a masked array, is missing, and so is an
        utterance that is zero throughout; -inf, a known defect of openSMILE's files, counts as its
        column's training mean. A `Given` is returned as it is.
      observed: modality -> (N,) or (N, T) bool, or (N, M) for all; what it denies is not read.

    Of an array the frames up to the last that is not zero exist, and as many as in any other array
    of as many frames, as in training; of a list all do.

    Utterances of which nothing is observed, and those of a list that are too long, are left out.

    Raises:
      UserError: names modality and utterance; none is left.
    """
    if isinstance(features, Given):
        return features
    features, names = _by_name(modalities, features), _names(modalities)
    features = {m: as_array(x) for m, x in features.items()}
    sizes = {m: len(x) for m, x in features.items() if x is not None}
    require(sizes, "no modality is given", f"one or more of {names}")
    first, rows = next(iter(sizes.items()))
    require(rows, "0 utterances are given", "at least one")
    for m, size in sizes.items():
        require(size == rows, f"{m}: {size} utterances", f"{rows}, as {first} has")
    masks = _masks(modalities, {} if observed is None else observed, rows)
    given = padded(modalities, features, rows)
    for m, x in given.features.items():
        if np.isposinf(x).any():
            row, frame, column = np.argwhere(np.isposinf(x))[0]
            raise UserError(
                f"{m}: utterance {row}, frame {frame}, column {column} is infinite in float32; "
                "allowed: float32 numbers, NaN for a missing frame"
            )
        if m in masks:
            x[~masks[m]] = np.nan
    shown = np.any(list(given.shows().values()), axis=0)
    why = dict.fromkeys(np.flatnonzero(~shown).tolist(), "has nothing observed")
    why |= given.left_out
    if not shown.any():
        row = min(why)
        allowed = f"at least one frame of one of {names}, and no more than the model has"
        raise UserError(f"utterance {row} {why[row]}; allowed: {allowed}")
    return Given(given.features, given.said, why)


def padded(modalities: Sequence[Modality], features: Mapping, rows: int) -> Given:
    """Return features by name as padded arrays; see `read`, which raises alike."""
    given, left_out = Given({}, {}), {}
    for name, _, frames, channels, _ in modalities:
        x = given.features[name] = np.full((rows, frames, channels), np.nan, np.float32)
        lengths = given.said[name] = np.full(rows, -1, np.int32)
        values, most = unmasked(as_array(features.get(name))), f"at most {frames}, {channels}"
        if isinstance(values, np.ndarray) and values.dtype != object:
            _write(x, values, f"{name}: an array of", f"numbers ({rows}, {most})")
            continue
        for row, value in enumerate(() if values is None else values):
            if value is not None:
                where, allowed = f"{name}: utterance {row} has", f"numbers ({most}), or None"
                value = np.asarray(unmasked(as_array(value)))
                if value.ndim == 2 and value.shape[0] > frames and value.shape[1] == channels:
                    left_out[row] = f"has {value.shape[0]} frames of {name}, of at most {frames}"
                    continue
                lengths[row] = _write(x[row], value, where, allowed)
    for row in left_out:
        for name, x in given.features.items():
            x[row], given.said[name][row] = np.nan, -1
    return Given(given.features, given.said, left_out)


def as_array(values: Any) -> Any:
    """Return what pandas, xarray, torch or JAX hold as an array of numpy; others as they are."""
    if values is None or isinstance(values, np.ndarray | list | tuple):
        return values
    if type(values).__module__.partition(".")[0] == "pandas":
        try:
            return values.to_numpy(dtype=float, na_value=np.nan)
        except (TypeError, ValueError):  # not numbers: a series of arrays, or of words
            if values.ndim > 1:
                return values.to_numpy()
            absent = values.isna()
            return [None if no else x for x, no in zip(values, absent, strict=True)]
    if hasattr(values, "detach"):  # torch's, which may require a gradient or be elsewhere
        values = values.detach().cpu()
    return np.asarray(values) if hasattr(values, "__array__") else values


def unmasked(values: Any) -> Any:
    """Return a masked array of numpy with NaN where it is masked; anything else as it is."""
    if not isinstance(values, np.ma.MaskedArray) or values.dtype.kind not in "fiu":
        return values
    floats = values.dtype if values.dtype.kind == "f" else np.float64
    return values.astype(floats).filled(np.nan)


def _write(place: np.ndarray, values: np.ndarray, where: str, allowed: str) -> int:
    """Write values (..., T, C) into a place of more frames, 0 after them, and return T."""
    if values.ndim == place.ndim - 1 and place.shape[-2] == 1:
        values = values[..., None, :]
    frames, channels = place.shape[-2:]
    fits = values.ndim == place.ndim and values.shape[-2] <= frames and values.shape[-1] == channels
    if not fits or values.dtype.kind not in "fiu":
        shape = f"shape {values.shape} and dtype {values.dtype}"
        raise UserError(f"{where} {shape}; allowed: {allowed}")
    place[:] = 0
    with np.errstate(over="ignore"):
        place[..., : values.shape[-2], :] = values
    return values.shape[-2]


def _by_name(modalities: Sequence[Modality], columns: Any) -> dict:
    """Return what is given by names or keys of modalities by their names."""
    problem, known = f"features are a {type(columns).__name__}", _names(modalities)
    require(isinstance(columns, Mapping), problem, f"a dict from modality ({known}) to arrays")
    names = {m.key: m.name for m in modalities} | {m.name: m.name for m in modalities}
    result: dict = {}
    for key, column in columns.items():
        require(key in names, f"modality {key!r} is unknown", known)
        if names[key] in result:
            raise UserError(f"modality {names[key]!r} is given twice, as {key!r} too")
        result[names[key]] = column
    return result


def _names(modalities: Sequence[Modality]) -> str:
    return ", ".join(m.name if m.key == m.name else f"{m.name} ({m.key})" for m in modalities)


def _masks(modalities: Sequence[Modality], observed: Any, rows: int) -> dict[str, np.ndarray]:
    """Return modality -> (N, T_m) bool, frames that are said to be observed, of some modalities."""
    if not isinstance(observed, Mapping):
        table, shape = np.asarray(as_array(observed)), (rows, len(modalities))
        problem = f"observed has shape {table.shape} and dtype {table.dtype}"
        fits = table.shape == shape and table.dtype == bool
        require(fits, problem, f"a dict by modality, or {shape} bool")
        observed = {m.name: table[:, i] for i, m in enumerate(modalities)}
    masks, most = _by_name(modalities, observed), {m.name: m.frames for m in modalities}
    for name, column in masks.items():
        mask, frames = np.asarray(as_array(column)), most[name]
        fits = mask.dtype == bool and mask.shape[:1] == (rows,) and mask.ndim <= 2
        problem = f"observed, {name}: shape {mask.shape} and dtype {mask.dtype}"
        require(fits, problem, f"({rows},) or ({rows}, at most {frames}) bool")
        mask = mask if mask.ndim == 2 else np.repeat(mask[:, None], frames, 1)
        count = mask.shape[1]
        require(count <= frames, f"observed, {name}: {count} frames", f"at most {frames}")
        masks[name] = np.pad(mask, ((0, 0), (0, frames - count)))
    return masks
