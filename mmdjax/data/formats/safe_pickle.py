"""Reads pickles of arrays, without a copy and without trust: nothing the file names ever runs.

`load` holds all of it in memory; `load_lazily` leaves what is large in the file.
"""

import collections
import dataclasses
import math
import os
import pickle
import re
import struct

import numpy as np

from mmdjax.data.formats.lazy import ArrayInFile, one_line
from mmdjax.errors import UserError

LARGE = 2**20  # bytes of one buffer: `load_lazily` leaves it in the file
_ALLOWED = "numpy arrays of bool, int, float, complex, str, bytes or object, and plain containers"
_DTYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248]|c(8|16)|[SU][1-9]\d{0,5}|O8?)", re.ASCII)
_REFUSED = "EXT1,EXT2,EXT4,PERSID,BINPERSID,OBJ,NEWOBJ,NEWOBJ_EX,NEXT_BUFFER,READONLY_BUFFER"


@dataclasses.dataclass
class BytesInFile:
    """A large buffer that stayed in its pickle; at most one array is made of it."""

    path: str | os.PathLike
    offset: int
    size: int
    _taken: bool = False

    def __len__(self) -> int:
        return self.size

    def take(self) -> "BytesInFile":
        # numpy writes a buffer for each array: one that many share is a bomb
        _require(not self._taken, "a buffer that several arrays share")
        self._taken = True
        return self

    def read(self) -> bytes:
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


def _require(condition, otherwise: str) -> None:
    if not condition:
        raise pickle.UnpicklingError(f"{otherwise} is refused")


def _dtype(spec, align=False, copy=True) -> np.dtype:
    _require(type(spec) is str, "numpy.dtype of something other than a str")
    _require(_DTYPE.fullmatch(spec), f"numpy.dtype {spec[:60]!a}")
    return np.dtype(spec, False, True)  # a copy: BUILD must not reach the dtypes numpy shares


def _content(dtype, shape, raw) -> bytes | list:
    """`raw`, if it is what `dtype` and `shape` need; numpy itself runs off a short list's end."""
    typed = isinstance(dtype, np.dtype) and type(shape) is tuple
    shaped = typed and all(type(n) is int and n >= 0 for n in shape)
    _require(shaped, "numpy.ndarray without a proper dtype and shape")
    raw = raw.encode("latin1") if type(raw) is str else raw  # python 2 wrote bytes as str
    kinds, unit = ((list,), 1) if dtype.hasobject else ((bytes, BytesInFile), dtype.itemsize)
    fits = type(raw) in kinds and len(raw) == math.prod(shape) * unit
    _require(fits, "numpy.ndarray whose content does not fit its dtype and shape")
    if dtype.kind == "U" and raw and np.frombuffer(raw, f"{dtype.str[0]}u4").max() > 0x10FFFF:
        _require(False, "numpy.str_ beyond unicode")
    return raw


def _frombuffer(raw, dtype, shape, order="C", axis_order=None) -> np.ndarray:
    flat = np.frombuffer(_content(dtype, shape, raw), dtype.str)
    made = flat.reshape(shape, order="F" if order == "F" else "C")
    return made if axis_order is None else made.transpose(axis_order)


def _encode(text, codec) -> bytes:
    _require(codec in ("latin1", "latin-1"), "_codecs.encode to other than latin1")
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


class _Unpickler(pickle._Unpickler):
    admitted = _ADMITTED

    dispatch = dict(pickle._Unpickler.dispatch)  # noqa: RUF012
    for _name in _REFUSED.split(","):
        dispatch[getattr(pickle, _name)[0]] = lambda _, n=_name: _require(False, f"opcode {n}")
    for _op in (pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3):
        dispatch[_op[0]] = lambda self, usual=dispatch[_op[0]]: self.load_tuples(usual)
    # a bytearray is only ever an array's buffer: bytes serve, and are read in place
    dispatch[pickle.BYTEARRAY8[0]] = dispatch[pickle.BINBYTES8[0]]

    def load_tuples(self, usual):
        usual(self)
        level = self.stack[-1:]
        for _ in range(4):  # hashing a tuple a million deep overflows the C stack
            level = {id(x): x for outer in level for x in outer if type(x) is tuple}.values()
        _require(not level, "a tuple nested more than four deep")

    def find_class(self, module, name):
        _require((asked := f"{module}.{name}") in self.admitted, ascii(asked[:100])[1:-1])
        return self.admitted[asked]

    def load_build(self):
        state, made = self.stack.pop(), self.stack[-1]
        if type(made) is np.ndarray:
            _, shape, dtype, fortran, raw = state
            raw = _content(dtype, shape, raw)
            return made.__setstate__((1, shape, np.dtype(dtype.str), bool(fortran), raw))
        # attributes are never set; sizes, flags and fields of a dtype are numpy's to say
        _require(isinstance(made, np.dtype), f"the state of a {type(made).__name__}")
        states = [made.newbyteorder(order).__reduce__()[2] for order in "<>"]
        _require(state in states, "numpy.dtype with a state of its own")
        made.__setstate__(states[states.index(state)])

    dispatch[pickle.BUILD[0]] = load_build


def _in_file(raw, dtype, shape, fortran=False) -> tuple[ArrayInFile | None, object]:
    """An array in C order that may stay in its file; or None, and the bytes for one in memory."""
    if not isinstance(raw, BytesInFile):
        return None, raw
    raw.take()
    if fortran or not isinstance(dtype, np.dtype) or dtype.kind == "U":
        return None, raw.read()  # other orders are read whole, and characters are checked
    _content(dtype, shape, raw)
    return ArrayInFile(raw.path, raw.offset, shape, dtype.str), raw


def _frombuffer_lazily(raw, dtype, shape, order="C", axis_order=None):
    fortran = order != "C" or axis_order is not None
    array, raw = _in_file(raw, dtype, shape, fortran)
    return _frombuffer(raw, dtype, shape, order, axis_order) if array is None else array


class _LazyUnpickler(_Unpickler):
    dispatch = dict(_Unpickler.dispatch)  # noqa: RUF012
    admitted = _ADMITTED | dict.fromkeys(
        [f"{core}.numeric._frombuffer" for core in ("numpy.core", "numpy._core")],
        _frombuffer_lazily,
    )

    def __init__(self, file, path):
        super().__init__(file, encoding="latin1")
        self._file, self._path = file, path
        self._size = os.fstat(file.fileno()).st_size

    def load_buffer(self, format, text=False):
        """Pushes the bytes; large ones, which stand outside of frames, are stepped over."""
        (size,) = struct.unpack(format, self.read(struct.calcsize(format)))
        _require(0 <= size <= self._size, "a buffer larger than its file")
        if size < LARGE or self._unframer.current_frame:
            raw = self.read(size)
            self.append(raw.decode("latin1") if text else raw)
            return
        place = BytesInFile(self._path, self._file.tell(), size)
        _require(place.offset + size <= self._size, "a buffer larger than its file")
        self._file.seek(size, os.SEEK_CUR)
        self.append(place)

    dispatch[pickle.BINSTRING[0]] = lambda self: self.load_buffer("<i", text=True)
    dispatch[pickle.BINBYTES[0]] = lambda self: self.load_buffer("<I")
    dispatch[pickle.BINBYTES8[0]] = lambda self: self.load_buffer("<Q")
    dispatch[pickle.BYTEARRAY8[0]] = dispatch[pickle.BINBYTES8[0]]

    def load_build(self):
        state, made = self.stack[-1], self.stack[-2]
        if type(made) is np.ndarray:
            version, shape, dtype, fortran, raw = state
            array, raw = _in_file(raw, dtype, shape, fortran)
            if array is not None:
                self.stack[-2:] = [array]
                for key in [key for key, value in self.memo.items() if value is made]:
                    self.memo[key] = array
                return
            self.stack[-1] = (version, shape, dtype, fortran, raw)
        super().load_build()

    dispatch[pickle.BUILD[0]] = load_build


def load(path: str | os.PathLike) -> object:
    """The object in a pickle of any protocol, by python 2 or 3, numpy 1 or 2.

    Raises `UserError` unless the file is a whole pickle of numpy arrays, scalars and
    unstructured dtypes in plain containers (lists, tuples, sets, dicts, str, bytes, numbers).
    """
    return _load(path, lambda file: _Unpickler(file, encoding="latin1"))


def load_lazily(path: str | os.PathLike) -> object:
    """As `load`, but buffers of a MiB and more stay in the file.

    An array in C order becomes a `lazy.ArrayInFile`, plain bytes a `BytesInFile`. Arrays of
    strings, in Fortran's order, or of protocol 2 and below by python 3 are read whole.
    """
    return _load(path, lambda file: _LazyUnpickler(file, path))


def _load(path, unpickler) -> object:
    try:
        with open(path, "rb") as file:
            return unpickler(file).load()
    except OSError as error:
        why = error.strerror
    except pickle.UnpicklingError as error:
        why = error
    except Exception as error:  # a broken stream raises whatever its bytes happen to spell
        known = {MemoryError: "more memory than there is", RecursionError: "nested too deeply"}
        why = known.get(type(error), "truncated, corrupt or not a pickle")
    raise UserError(f"{one_line(path, 4096)}: {why}; allowed: a whole pickle of {_ALLOWED}")
