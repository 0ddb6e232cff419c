"""Columns of rows that lie on a disk: whoever reads rows takes them in place of arrays (N, ...).

A split that is larger than `config.data.buffer` has such columns in its `Batch`; latents and draws
of its rows are written to files, block by block. In memory are the rows that are in use, and a few
numbers of each row: its label, its place in the file, what is present of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import os
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple, NoReturn

import numpy as np

from mmdjax.errors import UserError
from mmdjax.runtime import processes
from mmdjax.runtime.files import AGAIN, cache_folder, replaced
from mmdjax.types import Batch

CRC = 4  # bytes of a checksum
FILE_ROWS = 4096  # utterances of a prepared file
BLOCK = 256  # rows, or a little more, that a pass over all of them has in memory


class Kind(NamedTuple):
    """What a row of a column is: its shape and dtype."""

    shape: tuple[int, ...]
    dtype: np.dtype


class Table:
    """Columns of N rows, which are read together.

    The rows that were read last are kept: columns that are asked for them one after the other cost
    one reading.

    Attributes:
      kinds: name -> `Kind`.
    """

    def __init__(
        self,
        read: Callable[[np.ndarray], Mapping[str, np.ndarray]],
        rows: int,
        kinds: Mapping[str, Kind],
        some: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """read: indices (R,) -> name -> (R, ...), which nobody changes. rows: N. some: name of a
        column -> whether it has a True on its last axis, where that is known before."""
        self._read, self._rows, self.kinds, self.some = read, rows, dict(kinds), dict(some or {})
        self._last: tuple[bytes, Mapping[str, np.ndarray]] = (b"", {})

    def __len__(self) -> int:
        return self._rows

    def at(self, rows: np.ndarray) -> Mapping[str, np.ndarray]:
        """Return name -> (R, ...) of rows (R,)."""
        key, last = rows.tobytes(), self._last
        if not last[1] or last[0] != key:
            last = self._last = key, self._read(rows)
        return last[1]

    def taken(self, rows: np.ndarray) -> Table:
        """Return a table of some of the rows."""
        some = {name: a[rows] for name, a in self.some.items()}
        return Table(lambda index: self.at(rows[index]), len(rows), self.kinds, some)

    def mapped(self, function: Callable, some: Mapping[str, np.ndarray] | None = None) -> Table:
        """Return a table of function(columns, rows), computed when rows are read."""
        first = np.zeros(1, np.int64)
        made = function(self.at(first), first)
        kinds = {name: Kind(a.shape[1:], a.dtype) for name, a in made.items()}
        some = self.some if some is None else some
        return Table(lambda rows: function(self.at(rows), rows), len(self), kinds, some)

    def columns(self) -> dict[str, Stored]:
        """Return name -> `Stored`."""
        return {name: Stored(self, name) for name in self.kinds}


@dataclasses.dataclass(frozen=True, eq=False)
class Stored:
    """A column of a table: an array (N, ...) of which rows are read when they are asked for."""

    table: Table
    name: str

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.table), *self.table.kinds[self.name].shape)

    @property
    def dtype(self) -> np.dtype:
        return self.table.kinds[self.name].dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, rows: int | slice | Sequence[int] | np.ndarray) -> np.ndarray:
        """Read rows: one, a slice, or those of an array of indices or of bool (N,)."""
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        elif np.asarray(rows).dtype == bool:
            rows = np.flatnonzero(rows)
        index = np.atleast_1d(np.asarray(rows, np.int64))
        read = self.table.at(index)[self.name]
        return read if np.ndim(rows) else read[0]

    def __array__(self, *_: object, **__: object) -> NoReturn:
        raise TypeError(f"column {self.name!r} lies on a disk; read rows of it")

    def any(self, axis: int) -> np.ndarray:
        """Return what is True somewhere on the last axis, of all rows."""
        assert axis in (-1, self.ndim - 1)
        if self.name not in self.table.some:
            parts = [self[block].any(-1) for block in blocks(len(self))]
            self.table.some[self.name] = np.concatenate(parts)
        return self.table.some[self.name]


def blocks(rows: int, batch: int = 1) -> Iterator[slice]:
    """Yield slices that hold all rows in order, about `BLOCK` of them each and whole batches."""
    size = batch * -(-BLOCK // batch)
    return (slice(i, min(i + size, rows)) for i in range(0, rows, size))


def evenly(rows: int, most: int) -> np.ndarray:
    """Return at most so many of the rows, evenly spaced."""
    return np.arange(rows) if rows <= most else np.linspace(0, rows - 1, most).astype(np.int64)


def is_stored(batch: Batch) -> bool:
    """Return whether features are read when they are asked for."""
    return any(isinstance(x, Stored) for x in batch.features.values())


def batch_of(
    table: Table, label: np.ndarray, modalities: Iterable[str], classes: tuple[str, ...] = ()
) -> Batch:
    """Return utterances of which a table holds 'features M', 'valid M' and 'id'."""
    columns = table.columns()
    features, valid = (
        {m: columns[f"{part} {m}"] for m in modalities} for part in ("features", "valid")
    )
    return Batch(features, valid, label, columns["id"], None, classes)


def taken(batch: Batch, rows: np.ndarray) -> Batch:
    """Return the utterances at `rows`; stored ones are not read yet."""
    if not is_stored(batch):
        return batch.at(rows)
    if len(rows) == len(batch):
        return batch
    table = batch.id.table.taken(rows)
    return batch_of(table, batch.label[rows], batch.modalities, batch.classes)


def read(batch: Batch, rows: np.ndarray) -> Batch:
    """Return stored utterances in memory; what they are computed from is there by blocks."""
    parts = [batch.at(rows[block]) for block in blocks(len(rows))]
    features, valid = (
        {m: np.concatenate([getattr(part, name)[m] for part in parts]) for m in batch.modalities}
        for name in ("features", "valid")
    )
    label, ids = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("label", "id")
    )
    return Batch(features, valid, label, ids, None, batch.classes)


def applied(
    function: Callable[[Batch, np.ndarray], Batch], batch: Batch, present: np.ndarray | None = None
) -> Batch:
    """Return utterances whose features and frames a function changes; stored ones when read.

    Args:
      function: (utterances, their numbers) -> as many utterances.
      present: (N, M) bool of what it returns, where that is not what was present before.
    """
    if not is_stored(batch):
        return function(batch, np.arange(len(batch)))
    names, some = batch.modalities, None
    if present is not None:
        some = {f"valid {m}": present[:, i] for i, m in enumerate(names)}

    def of_rows(columns: Mapping[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
        features, valid = ({m: columns[f"{p} {m}"] for m in names} for p in ("features", "valid"))
        made = function(Batch(features, valid, batch.label[rows], columns["id"]), rows)
        changed = {f"features {m}": x for m, x in made.features.items()}
        return {**columns, **changed, **{f"valid {m}": v for m, v in made.valid.items()}}

    return batch_of(batch.id.table.mapped(of_rows, some), batch.label, names, batch.classes)


class _File:
    """Rows of one column in an open file, read without mapping it into memory."""

    def __init__(self, file: IO[bytes], start: int, kind: Kind) -> None:
        """file: open for reading, kept as long as this is. start: of the first row, in bytes."""
        self._file, self._start, self._kind = file, start, kind

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return rows (R, ...); those that follow each other are read at once."""
        result = np.empty((len(rows), *self._kind.shape), self._kind.dtype)
        size = result[:1].nbytes
        memory = result.reshape(-1).view(np.uint8)
        cuts = np.flatnonzero(np.diff(rows) != 1) + 1
        for first, end in itertools.pairwise([0, *cuts.tolist(), len(rows)]):
            part, place = memory[first * size : end * size], self._start + int(rows[first]) * size
            if os.preadv(self._file.fileno(), [part], place) != len(part):
                raise OSError(f"{self._file.name}: rows from {rows[first]} are missing")
        return result


def kept(parts: Iterable[Mapping[str, np.ndarray]], rows: int) -> Table:
    """Return a table of rows that are written to files of this process alone.

    The files have no name: they go when nothing reads them any more, however the process ends.

    Args:
      parts: blocks of the rows in order, name -> array. rows: N, of all of them.
    """
    folder, files, kinds = cache_folder() / "scratch", {}, {}
    folder.mkdir(parents=True, exist_ok=True)
    for part in parts:
        for name, a in part.items():
            if name not in files:
                files[name] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
                kinds[name] = Kind(a.shape[1:], a.dtype)
            files[name].write(np.ascontiguousarray(a).data)
    for file in files.values():
        file.flush()
    readers = {name: _File(file, 0, kinds[name]) for name, file in files.items()}
    return Table(lambda index: {n: r.read(index) for n, r in readers.items()}, rows, kinds)


def kept_npy(
    path: Path, make: Callable[[], Iterable[np.ndarray]], shape: tuple[int, ...]
) -> Stored:
    """Return a float32 .npy file as a column; the first process writes it where there is none.

    After its rows are four bytes, the CRC-32 of all before them.

    Args:
      make: () -> blocks of its rows in order, made by all processes together.
      shape: (N, ...) of all of them.
    """
    if not processes.agreed(path.exists()):
        with contextlib.ExitStack() as stack:
            file = None
            if processes.is_first():
                file = stack.enter_context(replaced(path)).open("w+b")
                stack.callback(file.close)
                header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
            for part in make():
                if file is not None:
                    file.write(np.ascontiguousarray(part, "<f4").data)
            if file is not None:
                file.flush()
                file.write(_sum(file, file.tell()))
        processes.meet(path.name)
    return open_npy(path)


def open_npy(path: Path) -> Stored:
    """Return an .npy file as a column, read once to compare its checksum where it has one.

    One of an earlier version, which ends with its rows, has no checksum.

    Raises:
      UserError: it is not as `kept_npy` wrote it.
    """
    file = path.open("rb")
    try:
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        end = file.tell() + math.prod(shape) * dtype.itemsize
        size = path.stat().st_size
        sound = size == end or (
            size == end + CRC and os.pread(file.fileno(), CRC, end) == _sum(file, end)
        )
    except Exception:  # whatever a damaged header leads to
        sound = False
    if not sound:
        raise UserError(f"{str(path)!r} is not as it was written; {AGAIN}")
    reader = _File(file, file.tell(), Kind(shape[1:], dtype))
    kinds = {path.stem: Kind(shape[1:], dtype)}
    return Stored(Table(lambda rows: {path.stem: reader.read(rows)}, shape[0], kinds), path.stem)


def _sum(file: IO[bytes], size: int) -> bytes:
    """Return the CRC-32 of the first `size` bytes of an open file."""
    total = 0
    for start in range(0, size, 2**20):
        total = zlib.crc32(os.pread(file.fileno(), min(2**20, size - start), start), total)
    return total.to_bytes(CRC, "little")
