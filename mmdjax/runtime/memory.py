"""Memory that a program frees and needs again at once stays with the process."""

from __future__ import annotations

import ctypes
import os
import platform

# Of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_NEVER, _LARGEST = -1, 2**31 - 1


def keep_memory() -> bool:
    """Makes malloc keep what is freed, and returns whether it does: nothing is changed where malloc
    is not glibc's, or where the environment sets it.

    A training step on a CPU takes hundreds of megabytes and frees them. By default each step gets
    them from the system anew, and the system clears page after page, which takes a third of the
    step. They are kept in one heap; the others, of threads, cannot hold a piece that large. So call
    this before JAX starts its threads. The most that a process holds hardly changes; it just does
    not give it back.
    """
    environment = "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    if environment or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    values = {_ARENA_MAX: 1, _MMAP_THRESHOLD: _LARGEST, _TRIM_THRESHOLD: _NEVER}
    return min(mallopt(name, value) for name, value in values.items()) == 1
