"""HDF5 files, read and written in a process of its own, which `hdf5` starts and asks.

The HDF5 library ends its process on some damaged files, and others keep it busy for ever. Here that
ends this process, not the run (see `child`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from stat import S_ISREG
from typing import Any

import h5py
import numpy as np

from mmdjax.data.formats import budget
from mmdjax.data.formats.child import serve

OPEN_FILES = 32
DEPTH = 6  # of groups in groups
LONGEST = 4096  # characters of a string
CHUNK = 2**30  # bytes of one chunk, which is decompressed whole

_open: dict[str, tuple[tuple, h5py.File]] = {}  # path -> what it was when opened, file


def _file(path: str) -> h5py.File:
    stat = os.stat(path)
    if not S_ISREG(stat.st_mode):  # a pipe would never answer
        raise ValueError("not a regular file")
    state = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
    if path in _open and _open[path][0] != state:
        _close(path)
    if path not in _open:
        while len(_open) >= OPEN_FILES:
            _close(next(iter(_open)))
        _open[path] = (state, h5py.File(path, "r", locking="best-effort"))
    return _open[path][1]


def _written(path: str) -> h5py.File:
    if path not in _open or _open[path][1].mode != "r+":
        _close(path)
        _open[path] = ((), h5py.File(path, "a", locking="best-effort"))
    return _open[path][1]


def _close(path: str) -> None:
    if path in _open:
        _open.pop(path)[1].close()


def index(request: Mapping[str, Any], content: bytes) -> tuple[dict, list]:
    """Return name -> [shape, dtype] of every dataset; refuse links."""
    size = os.path.getsize(request["path"])
    datasets: dict[str, list] = {}
    declared, seen = 0, set()

    def walk(group: h5py.Group, prefix: str, depth: int) -> None:
        nonlocal declared
        if depth > DEPTH:
            raise ValueError(f"{prefix[:100]!a}: groups more than {DEPTH} deep")
        place = h5py.h5o.get_info(group.id)
        if (place.fileno, place.addr) in seen:
            raise ValueError(f"{prefix[:100]!a}: a group within itself, or in two places")
        seen.add((place.fileno, place.addr))
        for name in group:
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise ValueError(f"{(prefix + name)[:100]!a} is a link: {type(link).__name__}")
            item = group[name]
            if isinstance(item, h5py.Group):
                walk(item, f"{prefix}{name}/", depth + 1)
            elif isinstance(item, h5py.Dataset) and item.shape is not None:
                datasets[prefix + name] = _described(item, prefix + name, size)
                declared += math.prod(item.shape) * item.dtype.itemsize
            if declared > budget.most(size):
                raise ValueError(f"its datasets declare {declared} bytes, for {size} of the file")
            if len(datasets) > 10**7:
                raise ValueError("more than 10 million datasets")

    walk(_file(request["path"]), "", 0)
    return {"datasets": datasets}, []


def _described(dataset: h5py.Dataset, name: str, size: int) -> list:
    """Return the shape and the dtype as numpy spells it, 'text' for strings, '' for no array."""
    if dataset.is_virtual or dataset.external:
        raise ValueError(f"{name[:100]!a} lies in other files")
    total = math.prod(dataset.shape) * dataset.dtype.itemsize
    if total > budget.most(size) or max(dataset.shape, default=0) > 2**40:
        raise ValueError(f"{name[:100]!a} declares shape {dataset.shape}, more than its file holds")
    if dataset.chunks and math.prod(dataset.chunks) * dataset.dtype.itemsize > CHUNK:
        raise ValueError(f"{name[:100]!a} has chunks of shape {dataset.chunks}, too large")
    plain = dataset.dtype.kind in "biuf" and dataset.dtype.itemsize in (1, 2, 4, 8)
    kind = np.dtype(dataset.dtype.str).str if plain else ""
    return [list(dataset.shape), "text" if h5py.check_string_dtype(dataset.dtype) else kind]


def read(request: Mapping[str, Any], content: bytes) -> tuple[dict, list]:
    """Return the rows of [name, start, stop] each, as plain arrays of the dtypes of `index`."""
    file, arrays = _file(request["path"]), []
    for name, start, stop in request["items"]:
        dataset = file[name]
        rows = dataset[start:stop] if dataset.shape else dataset[()][None]
        arrays.append(np.ascontiguousarray(rows, np.dtype(dataset.dtype.str)))
    return {}, arrays


def text(request: Mapping[str, Any], content: bytes) -> tuple[dict, list]:
    """Return a dataset of strings, as a flat list."""
    dataset = _file(request["path"])[request["name"]]
    if dataset.size > 10**7:
        raise ValueError("more than 10 million strings")
    words, left = [], budget.most(os.path.getsize(request["path"])) // 4  # they are copied
    # few at a time: many may point to one that is long
    for start in range(0, len(dataset), 64) if dataset.shape else ():
        for item in np.asarray(dataset[start : start + 64], object).reshape(-1).tolist():
            word = item.decode(errors="replace") if isinstance(item, bytes) else str(item)
            if len(word) > LONGEST:
                name = request["name"][:100]
                raise ValueError(f"{name!a} has a string of {len(word)} characters")
            left -= len(word) + 64
            if left < 0:
                raise ValueError("strings that are longer than the file")
            words.append(word)
    return {"items": words}, []


def write(request: Mapping[str, Any], content: bytes) -> tuple[dict, list]:
    """Write into a dataset from row `start`; with `shape`, into a new one."""
    name, start, file = request["name"], request["start"], _written(request["path"])
    rows = np.frombuffer(content, request["dtype"]).reshape(request["rows"])
    if request["shape"] is not None:
        file.create_dataset(name, request["shape"], request["dtype"])
    if len(rows):
        file[name][start : start + len(rows)] = rows
    return {}, []


def close(request: Mapping[str, Any], content: bytes) -> tuple[dict, list]:
    for path in request["paths"]:
        _close(path)
    return {}, []


REQUESTS = {"index": index, "read": read, "text": text, "write": write, "close": close}


def told(error: Exception) -> str:
    """Return in one line what h5py says of a file."""
    problem = " ".join(str(error).split()) or type(error).__name__
    return "nested too deeply" if isinstance(error, RecursionError) else problem


def main() -> None:
    serve(REQUESTS, told)
