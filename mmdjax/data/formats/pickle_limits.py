"""An unpickler that refuses content whose cost is out of proportion to its bytes.

Python's own copies, hashes and compares whatever a few bytes tell it to. What remains possible here
(256 items for a few bytes) is left to the limits of the process, see `pickle_process`.
"""

from __future__ import annotations

import collections
import os
import pickle
from collections.abc import Iterable, Sequence
from typing import IO, Any

import numpy as np

_SMALL = 256  # bytes, characters or items: what has more is copied once only
_DEEPEST = 8  # arrays of objects in arrays of objects: numpy frees them by recursion
_EQUAL = 1000  # tuples of one hash among the keys of a file
_PARTS = 64  # of a tuple as a key, counting those of tuples in it: they are hashed each time
_LONGEST = 2**16  # bytes or characters of a key: equal ones are compared to their end
_LARGEST_INT = 2**61 - 1  # Python's hashes of integers are modulo this: larger ones can collide
_PLAIN_KEYS = (str, bytes, float, type(None), np.integer, np.floating, np.bool_, np.str_, np.bytes_)


def require(condition: object, otherwise: str) -> None:
    if not condition:
        raise pickle.UnpicklingError(f"{otherwise} is refused")


def _check_plain(key: object) -> None:
    """Refuse a key, or a part of one, that is neither text nor a number, or is too long."""
    if type(key) is int:
        require(-_LARGEST_INT < key < _LARGEST_INT, "a key of more than 61 bits")
    else:
        require(isinstance(key, (*_PLAIN_KEYS, bool)), f"a {type(key).__name__} as a key")
        short = not isinstance(key, (str, bytes)) or len(key) <= _LONGEST
        require(short, f"a key of more than {_LONGEST} characters")


class _File:
    """A file as pickle reads it: a buffer that claims more bytes than the file has is refused."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._read, self._size, self.readline = file.read, size, file.readline

    def read(self, size: int) -> bytes:
        require(0 <= size <= self._size, "a buffer larger than its file")
        return self._read(size)


class Limited(pickle._Unpickler):
    """Python's own unpickler with limits.

    Attributes:
      file: what is read. size: its bytes.
    """

    dispatch = dict(pickle._Unpickler.dispatch)  # noqa: RUF012

    def __init__(self, file: IO[bytes], **options: Any) -> None:
        self.file, self.size = file, os.fstat(file.fileno()).st_size
        self._taken: dict[int, object] = {}  # id -> value, which keeps the id from being reused
        self._nested: dict[int, tuple[int, object]] = {}
        self._hashes: collections.Counter = collections.Counter()
        super().__init__(_File(file, self.size), **options)

    def take(self, value: object) -> None:
        """Refuse a second copy of anything large, or a few bytes would repeat it without end."""
        if isinstance(value, (str, bytes, list, dict, set, frozenset)) and len(value) > _SMALL:
            require(id(value) not in self._taken, f"a {type(value).__name__} that is copied twice")
            self._taken[id(value)] = value

    def check_keys(self, keys: Iterable) -> None:
        """Refuse keys, or elements of a set, that take long to hash or to tell apart."""
        for key in keys:
            if type(key) is tuple:
                parts = [key]
                for part in parts:  # parts of nested tuples are appended meanwhile
                    if type(part) is tuple:
                        fits = len(parts) + len(part) <= _PARTS + 1
                        require(fits, f"a key of more than {_PARTS} parts, nested ones included,")
                        parts += part
                    else:
                        _check_plain(part)
                self._hashes[hash(key)] += 1
                require(self._hashes[hash(key)] <= _EQUAL, "keys of equal hash")
            else:
                _check_plain(key)

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
        """Refuse an array of objects that holds others too deep.

        Arrays get their content from the inside out, and once, so that the depth of those within
        one is known and none can hold itself.
        """
        held = [x for x in items if isinstance(x, np.ndarray)]
        for x in held:
            self._nested.setdefault(id(x), (0, x))
        require(id(array) not in self._nested, "the content of arrays of objects out of order")
        depth = 1 + max((self._nested[id(x)][0] for x in held), default=0)
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
