"""Opens, describes and reads whole the file that it is given, within what `SECURITY.md` promises
of memory and work: more of either ends this process. Prints one line."""

import resource
import sys
from pathlib import Path

from mmdjax.data.formats import lazy
from mmdjax.data.formats.contents import open_contents
from mmdjax.data.formats.inspect_file import describe
from mmdjax.errors import UserError

TIMES, MORE, SECONDS = 8, 2**28, 10


def size(path: Path) -> int:
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files)


def main(path: Path) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + 1 + SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    most = now + TIMES * size(path) + MORE
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
    try:
        with open_contents(path) as contents:
            for part in contents.splits.values():
                for rows in part.features.values():
                    for start, stop in lazy.blocks(rows):
                        rows[start:stop]
        describe(path)
    except UserError as error:
        print(f"refused: {error}")
    else:
        print("read")


main(Path(sys.argv[1]))
