"""Pickles that nobody vouches for, read by `safe_pickle` in a process with limits (see `child`).

What it finds there is measured, every reference as if it were a copy, and comes here as a pickle of
a few functions of this module; large arrays stay in the file.
"""

from __future__ import annotations

import collections
import functools
import io
import math
import os
import pickle
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from mmdjax.data.formats import budget, child, lazy, safe_pickle
from mmdjax.data.formats.child import Child
from mmdjax.data.formats.lazy import ArrayInFile
from mmdjax.data.formats.safe_pickle import ALLOWED, BytesInFile, require

DEPTH = 32  # of containers in containers
_NUMBERS = {int, float, bool, complex, type(None)}
_LEAVES = (np.ndarray, np.generic, np.dtype, ArrayInFile, BytesInFile)
_PROTOCOL = 5
_process = Child("mmdjax.data.formats.pickle_process", "the reader of pickles", ALLOWED)


def load(path: str | os.PathLike, start: int = 0) -> object:
    """Return the object in a pickle, as `safe_pickle.load` does.

    Raises:
      UserError: it is none of plain arrays and containers, or is not read within the limits of
        `budget`.
    """

    def receive(pipe: int) -> tuple[Any, dict]:
        stream = _Stream(pipe)
        try:
            tree = _Decoder(io.BufferedReader(stream, 2**20), path).load()
        except (EOFError, pickle.UnpicklingError):  # it has failed on the way, and says why
            answer = stream.rest()
            if "error" not in answer:
                raise EOFError from None
            return None, answer
        return tree, stream.rest()

    return _process.ask(path, {"do": "load", "start": start}, receive=receive)


class _Stream(io.RawIOBase):
    """The bytes of all answers up to the last, which has none."""

    def __init__(self, pipe: int) -> None:
        self._pipe, self._left, self._answer = child.Patient(pipe), 0, None
        self._number = pipe

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left and self._answer is None:
            answer, self._left = child.head(self._number)
            self._answer = None if "more" in answer else answer
        if not self._left:
            return 0
        count = self._pipe.readinto(memoryview(buffer)[: self._left])
        if not count:
            raise EOFError
        self._left -= count
        return count

    def rest(self) -> dict:
        """Return the last answer."""
        while self._answer is None:
            self.read(2**20)
        return self._answer


class _Decoder(pickle.Unpickler):
    """Reads what `_Encoder` wrote: it knows no other functions."""

    def __init__(self, file: Any, path: str | os.PathLike) -> None:
        super().__init__(file)
        known = (set, frozenset, complex, collections.OrderedDict)
        self._known = {function.__name__: function for function in (*_DECODERS, *known)}
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        function = self._known[name]
        return functools.partial(function, self._path) if name in _WITH_PATH else function


def _array(dtype: str, shape: tuple, order: str, raw: bytes) -> np.ndarray:
    return np.frombuffer(raw, dtype).reshape(shape, order=order)


def _objects(shape: tuple, items: list) -> np.ndarray:
    array = np.empty(math.prod(shape), object)
    for place, item in enumerate(items):
        array[place] = item
    return array.reshape(shape)


def _scalar(dtype: str, raw: bytes) -> np.generic:
    return np.frombuffer(raw, dtype)[0]


def _in_file(
    path: str | os.PathLike, offset: int, shape: tuple, dtype: str, state: tuple
) -> ArrayInFile:
    array = ArrayInFile(path, offset, shape, dtype)
    array.state = state  # as it was there
    return array


def _bytes_in_file(path: str | os.PathLike, offset: int, size: int) -> BytesInFile:
    return BytesInFile(path, offset, size)


def _dtype(text: str) -> np.dtype:
    return np.dtype(text)


_DECODERS = (_array, _objects, _scalar, _in_file, _bytes_in_file, _dtype)
_WITH_PATH = ("_in_file", "_bytes_in_file")

# --- in the process --------------------------------------------------------------------------


class _Encoder(pickle.Pickler):
    def reducer_override(self, value: object) -> Any:
        if isinstance(value, np.ndarray):
            if value.dtype.hasobject:
                return _objects, (value.shape, value.reshape(-1).tolist())
            fortran = value.flags.fnc
            flat = lazy.bytes_of(value.T if fortran else np.ascontiguousarray(value))
            order = "F" if fortran else "C"
            return _array, (value.dtype.str, value.shape, order, pickle.PickleBuffer(flat))
        if isinstance(value, np.generic):
            return _scalar, (value.dtype.str, value.tobytes())
        if isinstance(value, ArrayInFile):
            return _in_file, (value.offset, value.shape, value.dtype.str, value.state)
        if isinstance(value, BytesInFile):
            return _bytes_in_file, (value.offset, value.size)
        if isinstance(value, np.dtype):
            return _dtype, (value.str,)
        return NotImplemented


class _Chunks:
    def write(self, content: bytes | pickle.PickleBuffer) -> None:
        with memoryview(content) as raw:
            if raw.nbytes:
                child.send_more(raw)


def measured(tree: object, most: int) -> int:
    """Return the bytes of a tree if every reference in it were a copy.

    Raises:
      UnpicklingError: more than `most`, nested beyond `DEPTH`, or a container that holds itself.
    """
    known: dict[int, tuple[int, int] | None] = {}  # id -> bytes, and how deep it is nested
    deepest = 0

    def of(x: Any, depth: int) -> int:
        nonlocal deepest
        if type(x) in _NUMBERS:
            return 8
        if type(x) in (str, bytes):
            return 8 + len(x)
        if id(x) in known:
            require(known[id(x)] is not None, "a container that holds itself")
            size, height = known[id(x)]
            check_depth(depth + height)
            return size
        before, deepest = deepest, depth
        check_depth(depth)
        known[id(x)] = None
        size = 8 + (x.nbytes if hasattr(x, "nbytes") else len(x) if type(x) is BytesInFile else 0)
        if isinstance(x, dict):
            size += several(list(x), depth) + several(list(x.values()), depth)
        elif isinstance(x, (list, tuple, set, frozenset)):
            size += several(x, depth)
        elif isinstance(x, np.ndarray) and x.dtype.hasobject:
            size += several(x.reshape(-1).tolist(), depth)
        else:
            require(isinstance(x, _LEAVES), f"a {type(x).__name__} in it")
        require(size <= most, f"content of {size} bytes, counting each reference as a copy,")
        known[id(x)] = size, deepest - depth
        deepest = max(before, deepest)
        return size

    def check_depth(depth: int) -> None:
        nonlocal deepest
        require(depth < DEPTH, f"content nested more than {DEPTH} deep")
        deepest = max(deepest, depth)

    def several(items: Collection, depth: int) -> int:
        kinds = set(map(type, items))
        if kinds <= _NUMBERS:
            return 8 * len(items)
        if kinds <= {str, bytes}:
            return 8 * len(items) + sum(map(len, items))
        return sum(of(item, depth + 1) for item in items)

    return of(tree, 0)


def read(request: Mapping[str, Any], content: bytes) -> tuple[dict, list]:
    """Send what a pickle holds."""
    path = request["path"]
    tree = safe_pickle.read(path, request["start"])
    measured(tree, budget.most(os.path.getsize(path)))
    _Encoder(_Chunks(), _PROTOCOL).dump(tree)
    return {}, []


def main() -> None:
    child.serve({"load": read}, safe_pickle.told)
