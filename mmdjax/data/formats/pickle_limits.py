"""What a pickle may ask of its reader: nothing that takes more than its bytes account for.

Python's reader copies, hashes and compares whatever a few bytes tell it to.
"""

from __future__ import annotations

import collections
import os
import pickle
from collections.abc import Iterable, Sequence
from typing import IO, Any

import numpy as np

_SMALL = 256  # bytes, characters or items: more of them are copied once
_DEEPEST = 8  # arrays of objects in arrays of objects: numpy frees them by recursion
_EQUAL = 1000  # tuples of one hash among the keys of a file
_LARGEST_INT = 2**61 - 1  # Python's hashes of integers are modulo this: larger ones can collide
_PLAIN_KEYS = (str, bytes, float, type(None), np.integer, np.floating, np.bool_, np.str_, np.bytes_)


def require(condition: object, otherwise: str) -> None:
    if not condition:
        raise pickle.UnpicklingError(f"{otherwise} is refused")


class _File:
    """A file as pickle reads it: no buffer is made of a size that lies."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._read, self._size, self.readline = file.read, size, file.readline

    def read(self, size: int) -> bytes:
        require(0 <= size <= self._size, "a buffer larger than its file")
        return self._read(size)


class Limited(pickle._Unpickler):
    """Python's own unpickler, within limits.

    Attributes:
      file, size: what is read, and its bytes.
    """

    dispatch = dict(pickle._Unpickler.dispatch)  # noqa: RUF012

    def __init__(self, file: IO[bytes], **options: Any) -> None:
        self.file, self.size = file, os.fstat(file.fileno()).st_size
        self._taken: dict[int, object] = {}  # by id, and kept, so that no other gets it
        self._nested: dict[int, tuple[int, object]] = {}
        self._hashes: collections.Counter = collections.Counter()
        super().__init__(_File(file, self.size), **options)

    def take(self, value: object) -> None:
        """Refuse what is copied a second time: a file would grow without end."""
        if isinstance(value, (str, bytes, list, dict, set, frozenset)) and len(value) > _SMALL:
            require(id(value) not in self._taken, f"a {type(value).__name__} that is copied twice")
            self._taken[id(value)] = value

    def check_keys(self, keys: Iterable, depth: int = 0) -> None:
        """Refuse keys, or elements of a set, that take long to hash or to tell apart."""
        for key in keys:
            if type(key) is int:
                require(-_LARGEST_INT < key < _LARGEST_INT, "a key of more than 61 bits")
            elif type(key) is tuple:
                require(depth < 4, "a key nested more than four deep")
                require(len(key) <= 16, "a key of more than 16 parts")
                self.check_keys(key, depth + 1)
                if not depth:
                    self._hashes[hash(key)] += 1
                    require(self._hashes[hash(key)] <= _EQUAL, "keys of equal hash")
            elif not isinstance(key, (*_PLAIN_KEYS, bool)):
                require(False, f"a {type(key).__name__} as a key")

    def load_setitems(self) -> None:
        items = self.pop_mark()
        self._set(self.stack[-1], items)

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set(self.stack[-1], [key, value])

    def load_dict(self) -> None:
        self._set(made := {}, self.pop_mark())
        self.append(made)

    def _set(self, target: Any, items: Sequence) -> None:
        require(isinstance(target, dict), f"items of a {type(target).__name__}")
        self.check_keys(items[::2])
        target.update(zip(items[::2], items[1::2], strict=True))

    def load_additems(self) -> None:
        items = self.pop_mark()
        require(type(self.stack[-1]) is set, "elements of something other than a set")
        self.check_keys(items)
        self.stack[-1].update(items)

    def load_frozenset(self) -> None:
        items = self.pop_mark()
        self.check_keys(items)
        self.append(frozenset(items))

    def load_appends(self) -> None:
        items = self.pop_mark()
        require(type(self.stack[-1]) is list, "items of something other than a list")
        self.stack[-1].extend(items)

    def load_append(self) -> None:
        item = self.stack.pop()
        require(type(self.stack[-1]) is list, "an item of something other than a list")
        self.stack[-1].append(item)

    def load_put(self) -> None:
        place = int(self.readline()[:-1])
        require(0 <= place < 2**32, "a place beyond the memo")
        self.memo[place] = self.stack[-1]

    def load_reduce(self) -> None:
        function, args = self.stack[-2:]
        require(type(args) is tuple, "arguments that are no tuple")
        for arg in args:
            self.take(arg)
        if function in (set, frozenset, collections.OrderedDict) and args:
            require(len(args) == 1 and type(args[0]) is list, "a container of other than a list")
            pairs = function is collections.OrderedDict
            fits = not pairs or all(type(x) in (list, tuple) and len(x) == 2 for x in args[0])
            require(fits, "a dict of other than pairs")
            self.check_keys([x[0] for x in args[0]] if pairs else args[0])
        super().load_reduce()

    def _instantiate(self, klass: object, args: object) -> None:
        require(False, "opcode INST")

    def nest(self, array: np.ndarray, items: Iterable) -> None:
        """Note how deep arrays of objects lie in an array, once: else it could hold itself."""
        require(id(array) not in self._nested, "an array with two contents")
        depth = 1 + max((self._nested[id(x)][0] for x in items if id(x) in self._nested), default=0)
        require(depth <= _DEEPEST, f"arrays of objects nested more than {_DEEPEST} deep")
        self._nested[id(array)] = depth, array

    for _op, _load in {
        "SETITEM": load_setitem,
        "SETITEMS": load_setitems,
        "DICT": load_dict,
        "ADDITEMS": load_additems,
        "FROZENSET": load_frozenset,
        "APPEND": load_append,
        "APPENDS": load_appends,
        "PUT": load_put,
        "REDUCE": load_reduce,
    }.items():
        dispatch[getattr(pickle, _op)[0]] = _load
