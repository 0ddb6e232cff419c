"""Memory that a program frees and needs again at once stays with the process."""

from __future__ import annotations

import ctypes
import os
import platform

# Of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_NEVER, _LARGEST = -1, 2**31 - 1


def keep_memory(one_heap: bool = False) -> bool:
    """Makes malloc keep what is freed, and returns whether it does: nothing is changed where malloc
    is not glibc's, or where the environment sets it.

    A training step on a CPU takes hundreds of megabytes and frees them. By default each step gets
    them from the system anew, and the system clears page after page, which takes a third of the
    step. The most that a process holds hardly changes; it just does not give it back. Call this
    before JAX starts its threads.

    Args:
      one_heap: for all threads. Heaps of threads cannot hold a piece that large, so this is for
        programs that run in them. Compiling, in many threads at once, waits for the one heap, and
        takes half as long again.
    """
    environment = "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    if environment or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    values = {_MMAP_THRESHOLD: _LARGEST, _TRIM_THRESHOLD: _NEVER}
    values |= {_ARENA_MAX: 1} if one_heap else {}
    return min(mallopt(name, value) for name, value in values.items()) == 1
