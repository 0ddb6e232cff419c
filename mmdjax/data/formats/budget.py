"""Limits on reading a file: memory of `TIMES` times its size and `MORE` bytes more, and `SECONDS`
of CPU for each `EACH` bytes of it.

Code that is about to allocate more than a file's bytes account for asks first: by `spend` for
memory that it keeps, by `check` for memory that it frees again.
"""

from __future__ import annotations

import contextlib
import contextvars
import itertools
import math
import os
from collections.abc import Collection, Iterator, Sequence

import numpy as np

from mmdjax.data.formats.lazy import refused

TIMES, MORE = 8, 2**28
SECONDS, EACH = 10, 10**7  # a file of fewer bytes has these seconds as well
ROW = 100  # bytes of an utterance's own names and places in memory
MOST_SPLITS = 64

# [bytes left, size of the files] within `of`.
_left: contextvars.ContextVar[list[int] | None] = contextvars.ContextVar("left", default=None)


def most(size: int) -> int:
    """Return the bytes of memory that reading a file of `size` bytes may take."""
    return TIMES * size + MORE


def seconds(size: int) -> int:
    """Return the seconds of CPU that reading a file of `size` bytes may take."""
    return max(SECONDS, math.ceil(size / EACH * SECONDS))


def allowed(size: int) -> str:
    """Return the rule, for a message."""
    return f"at most {most(size)} bytes, {TIMES} times the {size} of the file and {MORE} more"


def size_of(path: str | os.PathLike) -> int:
    """Return the bytes of a file, or of all files in a folder; 0 for what cannot be read.

    A file counts once, however many links lead to it.
    """
    inside = (os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names)
    sizes: dict[tuple[int, int], int] = {}
    for place in itertools.chain([path], inside):
        with contextlib.suppress(OSError):
            about = os.stat(place)
            sizes[about.st_dev, about.st_ino] = about.st_size
    return sum(sizes.values())


@contextlib.contextmanager
def of(*paths: str | os.PathLike) -> Iterator[None]:
    """Allow, inside the `with` block, what reading these files and folders may take."""
    size = sum(map(size_of, paths))
    before = _left.set([most(size), size])
    try:
        yield
    finally:
        _left.reset(before)


def check(where: object, what: str, count: int) -> None:
    """Raise `UserError` if fewer than `count` bytes are left.

    Outside of `of` nothing is limited: the data are the caller's own.
    """
    left = _left.get()
    if left is not None and count > left[0]:
        raise refused(where, f"{what}: {count} bytes", allowed(left[1]))


def spend(where: object, what: str, count: int) -> None:
    """Take `count` bytes from what is left; raise as `check` does if there are fewer."""
    check(where, what, count)
    left = _left.get()
    if left is not None:
        left[0] -= count


def words(where: object, names: Sequence[str]) -> np.ndarray:
    """Return names as an array (N,), in which numpy pads each to the length of the longest."""
    longest = max(map(len, names), default=0)
    what = f"{len(names)} names, the longest of {longest} characters"
    spend(where, what, 4 * longest * len(names))
    return np.array(names, str)


def check_splits(where: object, splits: Collection) -> None:
    """Raise `UserError` for more than `MOST_SPLITS` splits: each is searched for in all rows."""
    if len(splits) > MOST_SPLITS:
        raise refused(where, f"{len(splits)} splits", f"at most {MOST_SPLITS}")
