"""What `keep_memory` changes: freed memory is used again without asking the system for it."""

import os
import platform
import subprocess
import sys

import pytest

# Page faults of the second of two blocks, in a process of its own: malloc is set for good.
PROGRAM = """
import resource
from mmdjax.runtime.memory import keep_memory

kept = keep_memory({one_heap})
block = b"x" * 2**27
del block
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
block = b"y" * 2**27
print(int(kept), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
GLIBC = platform.libc_ver()[0] == "glibc"
PAGES = 2**27 // os.sysconf("SC_PAGE_SIZE")


def second_block(one_heap: bool = False, **environment: str) -> tuple[bool, int]:
    own = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(one_heap=one_heap)],
        env=own | environment,
        capture_output=True,
        check=True,
    )
    kept, faults = run.stdout.split()
    return kept == b"1", int(faults)


@pytest.mark.skipif(not GLIBC, reason="of glibc's malloc")
@pytest.mark.parametrize("one_heap", [False, True])
def test_freed_memory_is_used_again_without_a_page_fault(one_heap):
    kept, faults = second_block(one_heap)
    assert kept and faults < PAGES / 10


@pytest.mark.parametrize(
    "environment", [{"MALLOC_ARENA_MAX": "4"}, {"GLIBC_TUNABLES": "glibc.malloc.arena_max=4"}]
)
def test_what_the_environment_says_of_malloc_stays(environment):
    kept, _ = second_block(**environment)
    assert not kept
