""".npz: arrays by key, or by `split/key`; stored members are read in place.

Members of `np.savez_compressed` can only be read from their start: rows are cheap in ascending
order, and a step back starts again.
"""

from __future__ import annotations

import math
import shutil
import struct
import threading
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mmdjax.data.formats import budget, foreign, lazy, npy, tables
from mmdjax.data.formats.contents import Contents
from mmdjax.data.formats.lazy import quoted, refused
from mmdjax.errors import UserError

ALLOWED = "an .npz of plain arrays, stored or deflated"
_RATIO = 1100  # deflate makes no more of a byte
_MEMBERS = 10**5


def open_path(path: Path) -> Contents:
    """Open an .npz; raise `UserError` unless it holds plain arrays with features among them."""
    with lazy.reading(path, ALLOWED):
        archive = zipfile.ZipFile(path)

    def write(output: Path, changed: dict) -> None:
        with zipfile.ZipFile(path) as source:
            _write(output, source, members, changed)

    try:
        with lazy.reading(path, ALLOWED):
            members = _members(path, archive)
            table = {
                names: _rows(path, archive, info, names[-1]) for names, info in members.items()
            }
        return tables.open_table(path, "npz", table, write, archive.close)
    except UserError:
        archive.close()
        raise


def _members(path: Path, archive: zipfile.ZipFile) -> dict[tuple[str, ...], zipfile.ZipInfo]:
    """Return names -> member, for those that are arrays."""
    infos, size = archive.infolist(), path.stat().st_size
    if error := foreign.of_members(path, (info.filename for info in infos)):
        raise error
    if len(infos) > _MEMBERS:
        raise refused(path, f"{len(infos)} members", f"at most {_MEMBERS}")
    infos = [info for info in infos if info.filename.endswith(".npy")]
    nested = tables.names_splits(info.filename.split("/")[0] for info in infos)
    members = {}
    for info in infos:
        name = info.filename.removesuffix(".npy")
        names = tuple(name.split("/", 1)) if nested else (name,)
        array, packed = f"array {quoted(name)}", info.compress_type
        if names in members:
            raise refused(path, f"{array} is there twice", "each name once")
        if info.flag_bits & 1:
            raise refused(path, f"{array} is encrypted", ALLOWED)
        if packed not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise refused(path, f"{array} is packed by method {packed}", ALLOWED)
        most = info.compress_size * (_RATIO if packed else 1) + (1024 if packed else 0)
        if info.file_size > most or info.compress_size > size:
            problem = f"declares {info.file_size} bytes packed in {info.compress_size}"
            raise refused(f"{path}: {array}", problem, "a whole .npz")
        members[names] = info
    declared = sum(info.file_size for info in members.values())
    if declared > budget.most(size):
        problem = f"declares {declared} bytes"
        raise refused(path, problem, f"{budget.allowed(size)}; numpy.savez packs nothing")
    return members


def _rows(
    path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, key: str
) -> np.ndarray | lazy.Lazy | None:
    """Return the rows of a member; None if it is no plain array, unless it is an id or a label."""
    where = f"{path}: array {quoted(info.filename.removesuffix('.npy'))}"
    with lazy.reading(where, ALLOWED), archive.open(info) as file:
        try:
            header = npy.read_header(where, file)
        except UserError:
            if key in ("id", "split", *tables.LABELS):
                raise
            return None
    lazy.check_size(where, header.shape, header.dtype, info.file_size - header.offset)
    if info.compress_type == zipfile.ZIP_STORED:
        start = _start(path, info)
        flat = lazy.ArrayInFile(path, start + header.offset, header.shape, header.dtype)
    else:
        flat = _packed(where, archive, info, header)
    if not header.shape:
        return np.asarray(flat.read(0, 1)).reshape(()) if flat.nbytes < 2**20 else None
    return npy.in_order(flat, header)


def _start(path: Path, info: zipfile.ZipInfo) -> int:
    """Return where the bytes of a stored member begin: after a header of its own."""
    with path.open("rb") as file:
        file.seek(info.header_offset)
        head = file.read(30)
        if len(head) != 30 or not head.startswith(b"PK\x03\x04"):
            raise zipfile.BadZipFile("a member without its header")
        name, extra = struct.unpack("<HH", head[26:30])
        start = info.header_offset + 30 + name + extra
        if start + info.file_size > path.stat().st_size:
            raise zipfile.BadZipFile("a member beyond the end")
        return start


def _packed(
    where: str, archive: zipfile.ZipFile, info: zipfile.ZipInfo, header: npy.Header
) -> lazy.Lazy:
    """Return rows of a compressed member, read through one stream that is kept open."""
    lock, step = threading.Lock(), math.prod(header.shape[1:]) * header.dtype.itemsize
    streams: list = []

    def read(start: int, stop: int) -> np.ndarray:
        with lock, lazy.reading(where, ALLOWED):
            if not streams:
                streams.append(archive.open(info))
            rows = np.empty((stop - start, *header.shape[1:]), header.dtype)
            streams[0].seek(header.offset + start * step)
            lazy.fill(rows, streams[0])
            return rows

    return lazy.Lazy(header.shape, header.dtype, read)


def _write(
    output: Path,
    source: zipfile.ZipFile,
    members: Mapping[tuple[str, ...], zipfile.ZipInfo],
    changed: Mapping[tuple[str, ...], np.ndarray | lazy.Lazy],
) -> None:
    """Write members in their order, those that have not changed as they are; then new ones."""
    names_of = {info.filename: names for names, info in members.items()}
    with zipfile.ZipFile(output, "w", allowZip64=True) as target:
        for info in source.infolist():
            names = names_of.get(info.filename)
            copy = zipfile.ZipInfo(info.filename, info.date_time)
            copy.compress_type, copy.external_attr = info.compress_type, info.external_attr
            with target.open(copy, "w", force_zip64=True) as file:
                if names in changed:
                    npy.write(file, changed[names])
                    continue
                with source.open(info) as old:
                    shutil.copyfileobj(old, file, 2**20)
        for names in [names for names in changed if names not in members]:
            with target.open("/".join(names) + ".npy", "w", force_zip64=True) as file:
                npy.write(file, changed[names])
