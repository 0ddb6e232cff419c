"""Reads pickles of arrays, without a copy and without trust: nothing the file names ever runs."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import math
import os
import pickle
import re
import stat
import struct
from typing import IO, Any

import numpy as np

from mmdjax.data.formats.lazy import ArrayInFile, refused
from mmdjax.data.formats.pickle_limits import Limited, require

LARGE = 2**20  # bytes of one buffer: it stays in the file
ALLOWED = (
    "a whole pickle of numpy arrays of bool, int, float, complex, str, bytes or object, and plain "
    "containers"
)
_DTYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248]|c(8|16)|[SU][1-9]\d{0,5}|O8?)", re.ASCII)
_REFUSED = "EXT1,EXT2,EXT4,PERSID,BINPERSID,OBJ,NEWOBJ,NEWOBJ_EX,NEXT_BUFFER,READONLY_BUFFER,LONG4"


@dataclasses.dataclass
class BytesInFile:
    """A large buffer that stayed in its pickle; at most one array is made of it."""

    path: str | os.PathLike
    offset: int
    size: int
    _taken: bool = False

    def __len__(self) -> int:
        return self.size

    def take(self) -> BytesInFile:
        # numpy writes a buffer for each array: one that many share is a bomb
        require(not self._taken, "a buffer that several arrays share")
        self._taken = True
        return self

    def read(self) -> bytes:
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


def _dtype(spec: Any, align: object = False, copy: object = True) -> np.dtype:
    require(type(spec) is str, "numpy.dtype of something other than a str")
    require(_DTYPE.fullmatch(spec), f"numpy.dtype {spec[:60]!a}")
    return np.dtype(spec, False, True)  # a copy: BUILD must not reach the dtypes numpy shares


def _content(dtype: Any, shape: Any, raw: Any) -> bytes | list | BytesInFile:
    """Return `raw` if it is what `dtype` and `shape` need; numpy runs off a short list's end."""
    typed = isinstance(dtype, np.dtype) and type(shape) is tuple
    shaped = typed and len(shape) <= 64 and all(type(n) is int and 0 <= n < 2**63 for n in shape)
    require(shaped, "numpy.ndarray without a proper dtype and shape")
    raw = raw.encode("latin1") if type(raw) is str else raw  # python 2 wrote bytes as str
    kinds, unit = ((list,), 1) if dtype.hasobject else ((bytes, BytesInFile), dtype.itemsize)
    fits = type(raw) in kinds and len(raw) == math.prod(shape) * unit
    require(fits, "numpy.ndarray whose content does not fit its dtype and shape")
    if dtype.kind == "U" and raw and np.frombuffer(raw, f"{dtype.str[0]}u4").max() > 0x10FFFF:
        require(False, "numpy.str_ beyond unicode")
    return raw


def _in_file(
    raw: Any, dtype: Any, shape: Any, fortran: Any = False
) -> tuple[ArrayInFile | None, object]:
    """Return an array in C order that stays in its file; or None, and the bytes of the array."""
    if not isinstance(raw, BytesInFile):
        return None, raw
    raw.take()
    if fortran or not isinstance(dtype, np.dtype) or dtype.kind == "U":
        return None, raw.read()  # other orders are read whole, and characters are checked
    _content(dtype, shape, raw)
    return ArrayInFile(raw.path, raw.offset, shape, dtype.str), raw


def _frombuffer(
    raw: Any, dtype: Any, shape: Any, order: Any = "C", axis_order: Any = None
) -> np.ndarray | ArrayInFile:
    array, raw = _in_file(raw, dtype, shape, order != "C" or axis_order is not None)
    if array is not None:
        return array
    flat = np.frombuffer(_content(dtype, shape, raw), dtype.str)
    array = flat.reshape(shape, order="F" if order == "F" else "C")
    return array if axis_order is None else array.transpose(axis_order)


def _encode(text: str, codec: object) -> bytes:
    require(codec in ("latin1", "latin-1"), "_codecs.encode to other than latin1")
    return str.encode(text, "latin1")


_ADMITTED = {"numpy.ndarray": "numpy.ndarray", "numpy.dtype": _dtype, "_codecs.encode": _encode}
_ADMITTED["collections.OrderedDict"] = collections.OrderedDict
for _core in ("numpy.core", "numpy._core"):  # numpy 1 and numpy 2
    # an ndarray whatever the subtype; BUILD gives it shape, dtype and content
    _ADMITTED[f"{_core}.multiarray._reconstruct"] = lambda *_: np.empty(0, np.int8)
    _ADMITTED[f"{_core}.multiarray.scalar"] = lambda dtype, raw: _frombuffer(raw, dtype, ())[()]
    _ADMITTED[f"{_core}.numeric._frombuffer"] = _frombuffer
for _builtins in ("builtins", "__builtin__"):  # python 3 and python 2
    _ADMITTED |= {f"{_builtins}.{plain.__name__}": plain for plain in (set, frozenset, complex)}
    _ADMITTED[f"{_builtins}.bytes"] = lambda: b""  # protocol 2 writes all others by encode


class _Unpickler(Limited):
    dispatch = dict(Limited.dispatch)  # noqa: RUF012
    for _name in _REFUSED.split(","):
        dispatch[getattr(pickle, _name)[0]] = lambda _, n=_name: require(False, f"opcode {n}")
    dispatch[pickle.BINSTRING[0]] = lambda self: self.load_buffer("<i", text=True)
    dispatch[pickle.BINBYTES[0]] = lambda self: self.load_buffer("<I")
    dispatch[pickle.BINBYTES8[0]] = lambda self: self.load_buffer("<Q")
    # a bytearray is only ever an array's buffer: bytes serve, and are read in place
    dispatch[pickle.BYTEARRAY8[0]] = dispatch[pickle.BINBYTES8[0]]

    def __init__(self, file: IO[bytes], path: str | os.PathLike) -> None:
        super().__init__(file, encoding="latin1")
        self._path = path

    def load_buffer(self, format: str, text: bool = False) -> None:
        """Push the bytes; large ones, which stand outside of frames, are stepped over."""
        (size,) = struct.unpack(format, self.read(struct.calcsize(format)))
        require(0 <= size <= self.size, "a buffer larger than its file")
        if size < LARGE or self._unframer.current_frame:
            raw = self.read(size)
            self.append(raw.decode("latin1") if text else raw)
            return
        place = BytesInFile(self._path, self.file.tell(), size)
        require(place.offset + size <= self.size, "a buffer larger than its file")
        self.file.seek(size, os.SEEK_CUR)
        self.append(place)

    def find_class(self, module: str, name: str) -> Any:
        require((asked := f"{module}.{name}") in _ADMITTED, ascii(asked[:100])[1:-1])
        return _ADMITTED[asked]

    def load_build(self) -> None:
        state, built = self.stack.pop(), self.stack[-1]
        if type(built) is np.ndarray:
            _, shape, dtype, fortran, raw = state
            array, raw = _in_file(raw, dtype, shape, fortran)
            if array is None:
                self.take(raw)
                raw = _content(dtype, shape, raw)
                if dtype.hasobject:
                    self.nest(built, raw)
                return built.__setstate__((1, shape, np.dtype(dtype.str), bool(fortran), raw))
            self.stack[-1] = array
            # memoised a few steps ago; all of a large memo would be searched for each array
            latest = itertools.islice(reversed(self.memo.items()), 64)
            self.memo.update([(key, array) for key, value in latest if value is built])
            return
        # attributes are never set; sizes, flags and fields of a dtype are numpy's to say
        require(isinstance(built, np.dtype), f"the state of a {type(built).__name__}")
        plain = type(state) is tuple and all(type(x) in (int, str, type(None)) for x in state)
        states = [built.newbyteorder(order).__reduce__()[2] for order in "<>"]
        require(plain and state in states, "numpy.dtype with a state of its own")
        built.__setstate__(states[states.index(state)])

    dispatch[pickle.BUILD[0]] = load_build


def load(path: str | os.PathLike, start: int = 0) -> object:
    """Return the object in a pickle, as `read` does; raise `UserError` where that raises.

    This takes the memory and time that the file makes it take: `pickle_process` limits them.
    """
    try:
        return read(path, start)
    except Exception as error:
        problem = told(error)
    raise refused(path, problem, ALLOWED)


def read(path: str | os.PathLike, start: int = 0) -> object:
    """Return the object in a pickle of any protocol, by python 2 or 3, numpy 1 or 2.

    The pickle begins at byte `start` of the file.

    Buffers of a MiB and more stay in the file: an array in C order becomes a `lazy.ArrayInFile`,
    plain bytes a `BytesInFile`. Arrays of strings, in Fortran's order, or of protocol 2 and below
    by python 3 are read whole.

    Raises an exception that `told` knows unless the file is a whole pickle of numpy arrays, scalars
    and unstructured dtypes in plain containers (lists, tuples, sets, dicts, str, bytes, numbers).
    """
    if stat.S_ISFIFO(os.stat(path).st_mode):
        require(False, "a pipe")
    with open(path, "rb") as file:
        file.seek(start)
        return _Unpickler(file, path).load()


def told(error: Exception) -> str:
    """Return in one line what is wrong with a file; a broken one raises whatever it spells."""
    if isinstance(error, OSError):
        return error.strerror or "unreadable"
    if isinstance(error, pickle.UnpicklingError):
        return str(error)
    known = {MemoryError: "more memory than there is", RecursionError: "nested too deeply"}
    return known.get(type(error), "truncated, corrupt or not a pickle")
