"""Bodies of requests and answers: JSON, and .npz of plain arrays.

Either has utterances by modality, named as by the model or by its key in files. JSON: lists of N
utterances, each a list of frames; null is a missing number, frame, utterance or modality. An .npz:
arrays (N, T, C), NaN is missing, and so is a modality that is not there. Labels and 'id', which
files have beside their features, are not read.
"""

from __future__ import annotations

import io
import itertools
import json
import math
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import jax
import numpy as np

from mmdjax.data.formats import lazy, npy, npz
from mmdjax.data.formats.lazy import one_line, quoted
from mmdjax.data.formats.tables import LABELS
from mmdjax.errors import UserError, require
from mmdjax.serving.loader import Model

JSON, NPZ = "application/json", "application/x-npz"
OBJECT = "an object from modality to a list of utterances, null where something is missing"


class TooLarge(UserError):
    """More than the limit of a body."""


def columns(body: bytes, kind: str, most: int) -> dict:
    """Return what a body of `JSON` or `NPZ` holds by key, arrays or lists; most: bytes, unpacked.

    Raises:
      UserError: it cannot be read. TooLarge: there is more of it.
    """
    return _of_json(body) if kind == JSON else _of_npz(body, most)


def _of_json(body: bytes) -> dict:
    def refuse(name: str) -> NoReturn:
        raise ValueError(f"{name} is no JSON")

    try:
        found = json.loads(body, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise UserError(f"the body cannot be read: {one_line(error)}; allowed: {OBJECT}") from None
    require(isinstance(found, dict), f"the body is a {type(found).__name__}", OBJECT)
    return found


def _of_npz(body: bytes, most: int) -> dict[str, np.ndarray]:
    with lazy.reading("the body", npz.ALLOWED), zipfile.ZipFile(io.BytesIO(body)) as archive:
        infos = archive.infolist()
        size = sum(info.file_size for info in infos)
        if size > most:
            raise TooLarge(f"arrays of {size} bytes; allowed: at most {most}")
        return {info.filename.removesuffix(".npy"): _array(archive, info) for info in infos}


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    where = f"array {quoted(info.filename.removesuffix('.npy'))}"
    packed = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    require(packed, f"{where} is packed by method {info.compress_type}", npz.ALLOWED)
    with archive.open(info) as file:
        header = npy.read_header(where, file)
        lazy.check_size(where, header.shape, header.dtype, info.file_size - header.offset)
        flat = np.frombuffer(file.read(), header.dtype, math.prod(header.shape))
    return flat.reshape(header.shape, order="F" if header.fortran else "C")


def inputs(model: Model, given: Mapping) -> tuple[dict, dict]:
    """Return utterances as `Model.padded` of the loader makes them; see `features`.

    Raises:
      UserError: they do not fit the model.
    """
    found = features(model.signature["modalities"], given)
    try:
        return model.padded(found)
    except ValueError as error:
        raise UserError(str(error)) from None


def features(modalities: Sequence[Mapping], given: Mapping) -> dict:
    """Return modality -> (N, T, C) array or list of (T, C) arrays and None, as models take them.

    Args:
      modalities: of a model's signature. given: by name or key.

    Raises:
      UserError: an unknown key, or not numbers in that shape.
    """
    by_key = {m["key"]: m for m in modalities} | {m["name"]: m for m in modalities}
    found: dict = {}
    for key, column in given.items():
        if key in ("id", *LABELS) and key not in by_key:
            continue
        require(key in by_key, f"modality {quoted(key)} is unknown", known_names(modalities))
        name, channels = by_key[key]["name"], by_key[key]["channels"]
        flat = by_key[key]["frames"] == 1  # (N, C) will do
        require(name not in found, f"modality {quoted(name)} is given twice", "each once")
        if isinstance(column, list):
            places = (f"{name}: utterance {row}" for row in itertools.count())
            found[name] = [_utterance(next(places), x, channels, flat) for x in column]
        elif column is not None:
            problem = f"{name}: {type(column).__name__}"
            if isinstance(column, np.ndarray):
                column = column[:, None] if flat and column.ndim == 2 else column
                problem = f"{name}: shape {column.shape} of {column.dtype}"
            fits = isinstance(column, np.ndarray) and column.ndim == 3
            allowed = f"numbers (utterances, at most {by_key[key]['frames']}, {channels})"
            require(fits and column.dtype.kind in lazy.NUMBERS, problem, allowed)
            found[name] = column
    require(found, "no modality is given", f"one or more of {known_names(modalities)}")
    return found


def known_names(modalities: Sequence[Mapping]) -> str:
    return ", ".join(m["name"] for m in modalities)


def _utterance(where: str, value: Any, channels: int, flat: bool) -> np.ndarray | None:
    """Return a list of frames as an array (T, C)."""
    if value is None:
        return None
    allowed = f"a list of frames of {channels} numbers, or null"
    require(isinstance(value, list) and value, f"{where} is {one_line(repr(value), 40)}", allowed)
    frames = [[None] * channels if frame is None else frame for frame in value]
    if flat and not any(isinstance(frame, list) for frame in value):
        frames = [value]
    try:
        array = np.array(frames)
        if array.dtype == object and not {*map(type, array.ravel())} <= {int, float, type(None)}:
            raise ValueError
        with np.errstate(over="ignore"):
            numbers = array.astype(np.float32)
    except (ValueError, TypeError, OverflowError):
        raise UserError(f"{where} is not made of numbers alike; allowed: {allowed}") from None
    fits = array.ndim == 2 and array.dtype.kind in "fiuO"
    require(fits, f"{where} has shape {array.shape}", allowed)
    return numbers


def written(answer: Mapping, kind: str) -> bytes:
    """Return a pytree of arrays as a body: JSON with null for NaN, or .npz with names such as
    'features/acoustic'."""
    if kind == JSON:
        return json.dumps(jax.tree.map(plain, dict(answer))).encode()
    leaves, file = jax.tree_util.tree_leaves_with_path(dict(answer)), io.BytesIO()
    np.savez(file, **{"/".join(str(k.key) for k in path): a for path, a in leaves})
    return file.getvalue()


def plain(a: np.ndarray) -> list:
    if a.dtype.kind == "f" and not np.isfinite(a).all():
        return np.where(np.isfinite(a), a.astype(object), None).tolist()
    return a.tolist()
