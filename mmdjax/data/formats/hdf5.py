"""HDF5 files without their library in this process: `hdf5_process` reads them and survives it.

What is asked for comes through a pipe, a block at a time.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmdjax.data.formats import lazy
from mmdjax.data.formats.lazy import one_line, quoted, refused
from mmdjax.errors import UserError

ALLOWED = "a whole HDF5 file of plain arrays, without links to other places"
PATIENCE = 300.0  # seconds for one block; after that the library counts as lost
_HEAD = struct.Struct("<QQ")  # as in hdf5_process
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


class _Process:
    """The one process for all files; a new one after it ended."""

    def __init__(self):
        self._lock, self._child = threading.Lock(), None

    def ask(self, path, request: dict, content=b"", arrays=(), allowed: str = ALLOWED) -> dict:
        """Return the answer to a request; its bytes are put into `arrays`.

        Raises:
          UserError: the file cannot be read, or the library ended or hung on it.
        """
        request = request | {"path": os.path.abspath(path)}
        problem = "the HDF5 library has ended on it: damaged"
        with self._lock:
            try:
                child = self._running()
                text = json.dumps(request).encode()
                _send(child.stdin.fileno(), _HEAD.pack(len(text), len(content)) + text)
                _send(child.stdin.fileno(), content)
                answer = _answer(child.stdout.fileno(), arrays)
                problem = answer.get("error", "")
            except TimeoutError:
                problem = f"the HDF5 library has not answered for {PATIENCE:.0f} s"
                self.stop(kill=True)
            except UserError:
                raise
            except (OSError, ValueError, EOFError, MemoryError):
                self.stop(kill=True)
        if problem:
            raise refused(path, one_line(problem), allowed)
        return answer

    def _running(self) -> subprocess.Popen:
        if self._child is None:
            script = Path(__file__).with_name("hdf5_process.py")
            # -P: the modules beside the script do not hide Python's own
            self._child = subprocess.Popen(
                [sys.executable, "-P", str(script)],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # control-C is the run's to handle
            )
            try:
                _answer(self._child.stdout.fileno(), ())
            except (OSError, EOFError):
                self.stop(kill=True)
                raise UserError("h5py cannot be loaded; try: python -c 'import h5py'") from None
        return self._child

    def stop(self, kill: bool = False) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        if kill:
            child.kill()
        for pipe in (child.stdin, child.stdout):
            with contextlib.suppress(OSError):
                pipe.close()
        child.wait()


def _send(pipe: int, content) -> None:
    content = memoryview(content)
    while len(content):
        content = content[os.write(pipe, content[: 2**20]) :]


def _answer(pipe: int, arrays: Sequence[np.ndarray]) -> dict:
    head = np.empty(_HEAD.size, np.uint8)
    lazy.fill(head, _Patient(pipe))
    size, more = _HEAD.unpack(head.tobytes())
    text = np.empty(size, np.uint8)
    lazy.fill(text, _Patient(pipe))
    answer = json.loads(text.tobytes())
    if "error" not in answer:
        if more != sum(a.nbytes for a in arrays):
            raise ValueError("other bytes than it declared")
        for array in arrays:
            lazy.fill(array, _Patient(pipe))
    return answer


class _Patient:
    """Reads a pipe, and gives up after `PATIENCE` seconds of nothing."""

    def __init__(self, pipe: int):
        self._pipe = pipe

    def readinto(self, buffer) -> int:
        if not select.select([self._pipe], [], [], PATIENCE)[0]:
            raise TimeoutError
        return os.readv(self._pipe, [buffer])


_process = _Process()
atexit.register(_process.stop)
os.register_at_fork(after_in_child=_process.__init__)  # a parent's process is not ours to ask


def index(path: Path) -> dict[str, Dataset]:
    """Return every dataset of a file, by its whole name; raise `UserError` for links and damage."""
    datasets = _process.ask(path, {"do": "index"})["datasets"]
    return {name: Dataset(tuple(shape), dtype) for name, (shape, dtype) in datasets.items()}


def texts(path: Path, name: str) -> list[str]:
    """Return a dataset of strings."""
    return _process.ask(path, {"do": "text", "name": name})["items"]


def close(paths: Iterable[Path]) -> None:
    """Let go of files."""
    if _process._child is not None:
        _process.ask("", {"do": "close", "paths": [os.path.abspath(path) for path in paths]})


def rows(path: Path, name: str, dataset: Dataset) -> lazy.Lazy:
    """Return the rows of a dataset, (N, ...)."""
    dtype = np.dtype(dataset.dtype)
    lazy.check_size(f"{path}: {one_line(name)}", dataset.shape, dtype, 2**62)

    def read(start, stop):
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
        _process.ask(path, {"do": "read", "items": list(places[chosen])}, arrays=arrays[chosen])
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

    def read(at):
        present = [places[row] for row in at if places[row] is not None]
        blocks = iter(read_places(path, present, [datasets[place.name] for place in present]))
        empty = np.zeros((0, channels), dtype)
        rows = [empty if places[row] is None else next(blocks) for row in at]
        return [x.reshape(-1, channels) for x in rows]

    return lazy.Ragged(lengths, channels, dtype, read)


def whole(name: str, dataset: Dataset) -> Place:
    """Return all of a dataset (T, C), or of (C,), which is one frame."""
    return Place(name, 0, dataset.shape[0] if dataset.shape else 0)


def replace(path: Path, places, datasets, rows, create: Callable) -> None:
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


def write(path: Path, name: str, new, start: int = 0, create: bool = True) -> None:
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
