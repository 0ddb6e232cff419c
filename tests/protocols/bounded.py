"""Opens, describes and reads whole the files it is told, within what `SECURITY.md` promises of
memory and work: more of either ends this process.

Takes paths, one a line, and prints a line for each: 'read', or 'refused: ' and the message.
"""

import contextlib
import os
import resource
import sys
from pathlib import Path

from mmdjax.data.formats import lazy
from mmdjax.data.formats.contents import open_contents
from mmdjax.data.formats.inspect_file import describe
from mmdjax.errors import UserError

TIMES, MORE, SECONDS = 8, 2**28, 10
EACH = 10**7  # bytes for which these seconds are


def size_of(path: Path) -> int:
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files)


def limit(size: int) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + 1 + SECONDS * max(1, size // EACH)
    soften(resource.RLIMIT_CPU, seconds)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soften(resource.RLIMIT_AS, now + TIMES * size + MORE)


def soften(kind: int, most: int) -> None:
    hard = resource.getrlimit(kind)[1]
    resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def use(path: Path) -> str:
    limit(size_of(path))
    try:
        with open_contents(path) as contents:
            for part in contents.splits.values():
                for rows in part.features.values():
                    for start, stop in lazy.blocks(rows):
                        rows[start:stop]
        describe(path)
    except UserError as error:
        late = "more memory than there is" in str(error)
        if late or isinstance(error.__context__, MemoryError):
            os.abort()
        return f"refused: {error}"
    return "read"


def main() -> None:
    for line in sys.stdin:
        with contextlib.redirect_stdout(sys.stderr):
            outcome = use(Path(line.rstrip("\n")))
        print(outcome, flush=True)


main()
