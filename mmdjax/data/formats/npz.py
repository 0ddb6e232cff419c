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
from pathlib import Path

import numpy as np

from mmdjax.data.formats import lazy, npy, tables
from mmdjax.data.formats.contents import Changes, Contents
from mmdjax.data.formats.lazy import one_line
from mmdjax.data.formats.rewriting import rewritten
from mmdjax.errors import UserError

ALLOWED = "an .npz of plain arrays, stored or deflated"
_RATIO = 1100  # deflate makes no more of a byte
_MEMBERS = 10**5


def open_path(path: Path) -> Contents:
    """Raises `UserError` unless the file is an .npz of plain arrays with features among them."""
    where = one_line(path, 4096)
    with lazy.reading(where, ALLOWED):
        archive = zipfile.ZipFile(path)
    try:
        with lazy.reading(where, ALLOWED):
            members = _members(where, archive)
            table = {}
            for names, info in members.items():
                table[names] = _rows(path, archive, info, names[-1])
        splits, parts = tables.parts(where, table)
    except UserError:
        archive.close()
        raise

    def write(output: Path, replaced: Changes, added: Changes) -> None:
        changed = rewritten(where, table, splits, replaced, added)
        with zipfile.ZipFile(path) as source:
            _write(output, source, members, changed)

    pypots = splits.kind == "prefix" or all("X" in keys for keys in splits.columns.values())
    layout = "pypots" if pypots else "npz"
    return Contents(path, layout, parts, write, close=archive.close)


def _members(where: str, archive: zipfile.ZipFile) -> dict[tuple[str, ...], zipfile.ZipInfo]:
    """path of names -> member, for those that are arrays."""
    infos = archive.infolist()
    if len(infos) > _MEMBERS:
        raise UserError(f"{where}: {len(infos)} members; allowed: at most {_MEMBERS}")
    infos = [info for info in infos if info.filename.endswith(".npy")]
    nested = tables.names_splits(info.filename.split("/")[0] for info in infos)
    members = {}
    for info in infos:
        name = info.filename[: -len(".npy")]
        names = tuple(name.split("/", 1)) if nested else (name,)
        at = f"{where}: array {one_line(name, 60)!r}"
        if names in members:
            raise UserError(f"{at} is there twice; allowed: each name once")
        packed = info.compress_type
        if info.flag_bits & 1 or packed not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            how = "is encrypted" if info.flag_bits & 1 else f"is packed by method {packed}"
            raise UserError(f"{at} {how}; allowed: {ALLOWED}")
        most = info.compress_size * (_RATIO if packed else 1) + (1024 if packed else 0)
        if info.file_size > most or info.compress_size > Path(archive.filename).stat().st_size:
            what = f"{info.file_size} bytes packed in {info.compress_size}"
            raise UserError(f"{at}: declares {what}; allowed: a whole .npz")
        members[names] = info
    return members


def _rows(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, key: str):
    """The rows of a member; None if it is no plain array, which only matters for id and labels."""
    where = f"{one_line(path, 4096)}: array {one_line(info.filename[:-4], 60)!r}"
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
    """Where the bytes of a stored member begin: after a header of its own."""
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


def _packed(where: str, archive: zipfile.ZipFile, info: zipfile.ZipInfo, header: npy.Header):
    """Rows of a compressed member, through one stream that is kept open."""
    kept: list = []
    lock = threading.Lock()
    step = math.prod(header.shape[1:]) * header.dtype.itemsize

    def read(start, stop):
        with lock, lazy.reading(where, ALLOWED):
            if not kept:
                kept.append(archive.open(info))
            made = np.empty((stop - start, *header.shape[1:]), header.dtype)
            kept[0].seek(header.offset + start * step)
            lazy.fill(made, kept[0])
            return made

    return lazy.Lazy(header.shape, header.dtype, read)


def _write(output: Path, source: zipfile.ZipFile, members, changed) -> None:
    """Members in their order, those that have not changed as they are; then new ones."""
    names_of = {info.filename: names for names, info in members.items()}
    with zipfile.ZipFile(output, "w", allowZip64=True) as target:
        for info in source.infolist():
            names = names_of.get(info.filename)
            made = zipfile.ZipInfo(info.filename, info.date_time)
            made.compress_type, made.external_attr = info.compress_type, info.external_attr
            with target.open(made, "w", force_zip64=True) as file:
                if names in changed:
                    npy.write(file, changed[names])
                    continue
                with source.open(info) as old:
                    shutil.copyfileobj(old, file, 2**20)
        for names, rows in changed.items():
            if names in members:
                continue
            if isinstance(rows, (list, lazy.Ragged)):
                key = one_line(names[-1], 60)
                what = f"array {key!r} is sequences of unequal length"
                raise UserError(f"{one_line(output, 4096)}: {what}; allowed: (N, ...) in an .npz")
            with target.open("/".join(names) + ".npy", "w", force_zip64=True) as file:
                npy.write(file, rows)
