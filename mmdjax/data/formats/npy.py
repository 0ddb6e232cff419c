"""The `.npy` format: its header read without its array, and arrays written in blocks."""

from __future__ import annotations

import functools
import os
import re
import stat
import struct
import warnings
from typing import IO, NamedTuple

import numpy as np

from mmdjax.data.formats import lazy
from mmdjax.data.formats.lazy import one_line, quoted, refused

ALLOWED = "a .npy array of bool, int, float, complex, str or bytes, without pickled objects"
_LONGEST = 10_000  # bytes of a header
_PAIR = re.compile(r"""['"](\w{1,20})['"]\s*:\s*("[^"]*"|'[^']*'|\w+|\([^()]*\))""")
_KEYS = {"descr", "fortran_order", "shape"}
_DTYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248]|c(8|16)|[SU][1-9]\d{0,5})", re.ASCII)


class Header(NamedTuple):
    """What is known of an array; offset is that of its first byte, fortran its order."""

    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool
    offset: int


def read_header(where: object, file: IO[bytes]) -> Header:
    """Read the start of a file; nothing in it is evaluated.

    Raises:
      UserError: no header, or one of objects or fields.
    """
    with lazy.reading(where, ALLOWED):
        return Header(*_parsed(header_text(file)), file.tell())


def header_text(file: IO[bytes]) -> str:
    """Read the start of a file, and leave it at its first array byte.

    Raises:
      ValueError, struct.error: no header.
    """
    start = file.read(8)
    sizes = {b"\1\0": "<H", b"\2\0": "<I", b"\3\0": "<I"}
    if not start.startswith(b"\x93NUMPY") or start[6:] not in sizes:
        raise ValueError("not a .npy header")
    (size,) = struct.unpack(sizes[start[6:]], file.read(struct.calcsize(sizes[start[6:]])))
    if size > _LONGEST:
        raise ValueError(f"a header of {size} bytes")
    return file.read(size).decode("latin1").strip()


@functools.lru_cache(64)  # a folder holds thousands of files of one shape
def _parsed(text: str) -> tuple[tuple[int, ...], np.dtype, bool]:
    fields = dict(_PAIR.findall(text))
    if re.sub(r"[\s,]", "", _PAIR.sub("", text)) != "{}" or set(fields) != _KEYS:
        raise ValueError(f"its header {quoted(text)}")
    descr, order = fields["descr"][1:-1], fields["fortran_order"]
    if not _DTYPE.fullmatch(descr) or order not in ("True", "False"):
        raise ValueError(f"dtype {quoted(descr)} in order {one_line(order, 20)}")
    numbers = fields["shape"].strip("() ").replace("L", "").split(",")  # L: python 2's
    shape = tuple(int(number) for number in numbers if number.strip())
    if fields["shape"][0] != "(" or len(shape) > 32 or any(n < 0 for n in shape):
        raise ValueError(f"shape {one_line(shape, 60)}")
    return shape, np.dtype(descr), order == "True"


def rows_of_file(path: str | os.PathLike) -> lazy.Lazy:
    """Return the array of a `.npy` file, left there; in Fortran's order it is read whole.

    Raises:
      UserError: not a regular file, or not a whole `.npy` array.
    """
    with lazy.reading(path, ALLOWED):
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise refused(path, "not a regular file", ALLOWED)
        with open(path, "rb") as file:
            header = read_header(path, file)
            end = os.fstat(file.fileno()).st_size
    lazy.check_size(path, header.shape, header.dtype, end - header.offset)
    return in_order(lazy.ArrayInFile(path, header.offset, header.shape, header.dtype), header)


def in_order(flat: lazy.Lazy, header: Header) -> lazy.Lazy:
    """Return rows of an array whose bytes are those of `flat`, of the same shape in C order."""
    if not header.fortran or len(header.shape) < 2:
        return flat
    arrays: list = []  # rows lie all over the file: it is read once, whole

    def read(start: int, stop: int) -> np.ndarray:
        if not arrays:
            arrays.append(np.asarray(flat).reshape(header.shape[::-1]).transpose())
        return arrays[0][start:stop].copy()

    return lazy.Lazy(header.shape, header.dtype, read)


def write(file: IO[bytes], rows: np.ndarray | lazy.Lazy) -> None:
    """Write an array, or `Lazy` rows, which are read a block at a time."""
    header = {"descr": np.lib.format.dtype_to_descr(rows.dtype), "fortran_order": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.lib.format.write_array_header_1_0(file, header | {"shape": tuple(rows.shape)})
    if not rows.shape:
        file.write(np.asarray(rows).tobytes())
        return
    for start, stop in lazy.blocks(rows):
        file.write(np.ascontiguousarray(rows[start:stop]).tobytes())
