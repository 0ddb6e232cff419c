"""What reading a file may take: memory and content of `TIMES` times its size and `MORE` bytes, and
`SECONDS` of work for 10 MB.

What grows beyond the bytes of a file is announced before it is made: `spend` what stays, `check`
what does not.
"""

from __future__ import annotations

import contextlib
import contextvars
import math
import os
from collections.abc import Collection, Iterator, Sequence

import numpy as np

from mmdjax.data.formats.lazy import refused

TIMES, MORE = 8, 2**28
SECONDS, EACH = 10, 10**7  # seconds for a file of `EACH` bytes, or of fewer
ROW = 100  # bytes: an utterance has names and places of its own
MOST_SPLITS = 64

_left: contextvars.ContextVar[list[int] | None] = contextvars.ContextVar("left", default=None)


def most(size: int) -> int:
    """Return the bytes that reading a file of `size` bytes may take."""
    return TIMES * size + MORE


def seconds(size: int) -> int:
    """Return the seconds of work that reading a file of `size` bytes may take."""
    return max(SECONDS, math.ceil(size / EACH * SECONDS))


def allowed(size: int) -> str:
    """Return the rule, for a message."""
    return f"at most {most(size)} bytes, {TIMES} times the {size} of the file and {MORE} more"


def size_of(path: str | os.PathLike) -> int:
    """Return the bytes of a file, or of all in a folder; 0 of what cannot be read."""
    total = 0
    with contextlib.suppress(OSError):
        total += os.stat(path).st_size
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.stat(os.path.join(folder, name)).st_size
    return total


@contextlib.contextmanager
def of(*paths: str | os.PathLike) -> Iterator[None]:
    """Within it, there is what reading these files and folders may take."""
    size = sum(map(size_of, paths))
    before = _left.set([most(size), size])
    try:
        yield
    finally:
        _left.reset(before)


def check(where: object, what: str, count: int) -> None:
    """Raise `UserError` if there is no room for `count` bytes.

    Outside of `of` there always is: the data are the caller's own.
    """
    left = _left.get()
    if left is not None and count > left[0]:
        raise refused(where, f"{what}: {count} bytes", allowed(left[1]))


def spend(where: object, what: str, count: int) -> None:
    """Raise as `check` does, or take away `count` bytes that stay."""
    check(where, what, count)
    left = _left.get()
    if left is not None:
        left[0] -= count


def words(where: object, names: Sequence[str]) -> np.ndarray:
    """Return names as an array (N,), which numpy pads to the longest."""
    longest = max(map(len, names), default=0)
    what = f"{len(names)} names, the longest of {longest} characters"
    spend(where, what, 4 * longest * len(names))
    return np.array(names, str)


def check_splits(where: object, splits: Collection) -> None:
    """Raise `UserError` for more splits than there are: each is looked for in all rows."""
    if len(splits) > MOST_SPLITS:
        raise refused(where, f"{len(splits)} splits", f"at most {MOST_SPLITS}")
