"""What reading a file may take: memory and content of `TIMES` times its size and `MORE` bytes, and
`SECONDS` of work for 10 MB.

What grows beyond the bytes of a file is announced with `spend` before it is made.
"""

from __future__ import annotations

import contextlib
import contextvars
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from mmdjax.data.formats.lazy import refused
from mmdjax.errors import UserError

TIMES, MORE = 8, 2**28
SECONDS, EACH = 10, 10**7  # seconds for a file of `EACH` bytes, or of fewer
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
    return f"at most {most(size)} bytes for its {size}, which are {TIMES} times and {MORE} more"


def too_much(where, what: str, count: int, size: int) -> UserError:
    """Return the error for content that is larger than its file may have."""
    return refused(where, f"{what} of {count} bytes", allowed(size))


@contextlib.contextmanager
def of(size: int) -> Iterator[None]:
    """Within it, `spend` has what a file of `size` bytes may take."""
    before = _left.set([most(size), size])
    try:
        yield
    finally:
        _left.reset(before)


def spend(where, what: str, count: int) -> None:
    """Announce `count` bytes that will be held; raise `UserError` if there is no room for them.

    Outside of `of` there is no limit: the data are the caller's own.
    """
    left = _left.get()
    if left is None:
        return
    if count > left[0]:
        raise too_much(where, what, count, left[1])
    left[0] -= count


def words(where, names: Sequence[str]) -> np.ndarray:
    """Return names as an array (N,), which numpy pads to the longest."""
    longest = max(map(len, names), default=0)
    spend(
        where, f"{len(names)} names, the longest of {longest} characters:", 4 * longest * len(names)
    )
    return np.array(names, str)


def check_splits(where, splits: Mapping | Sequence) -> None:
    """Raise `UserError` for more splits than a data set has: each is looked for in all rows."""
    if len(splits) > MOST_SPLITS:
        raise refused(where, f"{len(splits)} splits", f"at most {MOST_SPLITS}")
