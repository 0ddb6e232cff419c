"""HDF5 files without their library in this process: `hdf5_process` reads them and survives it.

What is asked for comes through a pipe, a block at a time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmdjax.data.formats import child, lazy
from mmdjax.data.formats.child import Child
from mmdjax.data.formats.lazy import one_line, quoted, refused
from mmdjax.errors import UserError

ALLOWED = "a whole HDF5 file of plain arrays, without links to other places"
_TOGETHER = 2**12  # sequences asked for at once


class Dataset(NamedTuple):
    """A dataset of a file: dtype 'text' for strings, '' for what is no plain array."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def is_numbers(self) -> bool:
        return self.dtype not in ("", "text") and np.dtype(self.dtype).kind in lazy.NUMBERS


class Place(NamedTuple):
    """Rows [start, stop) of a dataset."""

    name: str
    start: int
    stop: int


_process = Child("mmdjax.data.formats.hdf5_process", "the HDF5 library", ALLOWED)


def index(path: Path) -> dict[str, Dataset]:
    """Return every dataset of a file, by its whole name; raise `UserError` for links and damage."""
    datasets = _process.ask(path, {"do": "index"})["datasets"]
    return {name: Dataset(tuple(shape), dtype) for name, (shape, dtype) in datasets.items()}


def texts(path: Path, name: str) -> list[str]:
    """Return a dataset of strings."""
    return _process.ask(path, {"do": "text", "name": name})["items"]


def close(paths: Iterable[Path]) -> None:
    """Let go of files."""
    if _process.is_running:
        _process.ask("", {"do": "close", "paths": [os.path.abspath(path) for path in paths]})


def rows(path: Path, name: str, dataset: Dataset) -> lazy.Lazy:
    """Return the rows of a dataset, (N, ...)."""
    dtype = np.dtype(dataset.dtype)
    lazy.check_size(f"{path}: {one_line(name)}", dataset.shape, dtype, 2**62)

    def read(start: int, stop: int) -> np.ndarray:
        return read_places(path, [Place(name, start, stop)], [dataset])[0]

    return lazy.Lazy(dataset.shape, dtype, read)


def read_places(
    path: Path, places: Sequence[Place], datasets: Sequence[Dataset]
) -> list[np.ndarray]:
    """Return the rows at several places of a file."""
    with lazy.reading(path, ALLOWED):
        arrays = [
            np.empty((place.stop - place.start, *dataset.shape[1:]), dataset.dtype)
            for place, dataset in zip(places, datasets, strict=True)
        ]
    for first in range(0, len(arrays), _TOGETHER):
        chosen = slice(first, first + _TOGETHER)
        request = {"do": "read", "items": list(places[chosen])}
        _process.ask(path, request, receive=child.into(arrays[chosen]))
    return arrays


def sequences(
    path: Path, places: Sequence[Place | None], datasets: Mapping[str, Dataset]
) -> lazy.Ragged:
    """Return N sequences (T_i, C), each the rows of a place, or none where there is no place.

    Raises:
      UserError: naming the dataset: not (T, C) numbers of the first one's channels and dtype.
    """
    lengths, first = np.zeros(len(places), np.int64), None
    for row, place in enumerate(places):
        if place is None:
            continue
        dataset = datasets[place.name]
        name = quoted(place.name, 300)
        if not (dataset.is_numbers and len(dataset.shape) in (1, 2) and dataset.shape[-1]):
            problem = f"{dataset.dtype or 'no array'} {dataset.shape}"
            raise refused(path, f"{name} is {problem}", "(T, C) numbers")
        channels = dataset.shape[-1]
        first = first or (channels, dataset.dtype, place.name)
        if (channels, dataset.dtype) != first[:2]:
            allowed = f"{first[0]} of {first[1]}, as {quoted(first[2])}"
            raise refused(path, f"{name} is {channels} channels of {dataset.dtype}", allowed)
        lengths[row] = place.stop - place.start if len(dataset.shape) == 2 else 1
    channels, dtype = first[0], np.dtype(first[1])
    if lengths.max() * channels * dtype.itemsize > lazy.LARGEST_ROW:
        problem = f"a sequence of {lengths.max()} frames"
        raise refused(path, problem, f"at most {lazy.LARGEST_ROW} bytes")

    def read(at: Collection[int]) -> list[np.ndarray]:
        present = [places[row] for row in at if places[row] is not None]
        blocks = iter(read_places(path, present, [datasets[place.name] for place in present]))
        empty = np.zeros((0, channels), dtype)
        rows = [empty if places[row] is None else next(blocks) for row in at]
        return [x.reshape(-1, channels) for x in rows]

    return lazy.Ragged(lengths, channels, dtype, read)


def whole(name: str, dataset: Dataset) -> Place:
    """Return all of a dataset (T, C), or of (C,), which is one frame."""
    return Place(name, 0, dataset.shape[0] if dataset.shape else 0)


def replace(
    path: Path,
    places: Sequence[Place | None],
    datasets: Mapping[str, Dataset],
    rows: lazy.Rows,
    create: Callable,
) -> None:
    """Write sequences into a file of our own, where it has others, as their dtype.

    Args:
      create: (row, frames) writes the frames that the file lacked.
    """
    for row, place in enumerate(places):
        new = np.asarray(rows[row])
        if place is not None:
            stored = datasets[place.name]
            new = new.astype(stored.dtype).reshape(-1, *stored.shape[1:])
            write(path, place.name, new, place.start, create=False)
        elif len(new):
            create(row, new.astype(rows.dtype))


def write(
    path: Path, name: str, new: np.ndarray | lazy.Lazy, start: int = 0, create: bool = True
) -> None:
    """Write rows, dense or an array, to a file of our own, block by block: into a new dataset, or
    into an existing one from row `start`; numbers take the dataset's dtype.

    Raises:
      UserError: the disk is full, or the like.
    """
    shape = [int(n) for n in new.shape] if create else None
    for first, last in list(lazy.blocks(new)) or [(0, 0)]:
        block = np.ascontiguousarray(new[first:last])
        request = {"do": "write", "name": name, "dtype": block.dtype.str, "shape": shape}
        request |= {"start": start + first, "rows": block.shape}
        try:
            _process.ask(path, request, lazy.bytes_of(block), allowed="a place with room to write")
        except UserError:
            _process.stop(kill=True)  # its caches hold what it could not write
            raise
        shape = None
