"""What the layouts of folders share: rows joined by id, files copied and written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from mmdjax.data.formats import budget
from mmdjax.data.formats.contents import Part
from mmdjax.data.formats.lazy import Rows, is_ragged, one_line, quoted, refused


def joined(
    where: object,
    ids: Sequence[str],
    label: np.ndarray | None,
    places: Mapping[str, Sequence],
    read: Callable[[str, Sequence], Rows],
) -> tuple[Part, tuple[str, ...]]:
    """Return a row for each id, and notes on what is missing.

    An id that a modality lacks has no frames there, and is not observed; a modality that lacks all
    is left out.

    Args:
      places: key -> for each id, where its frames are, or None.
      read: (key, places) -> rows.

    Raises:
      UserError: no features at all.
    """
    features, observed, notes = {}, {}, []
    for key, in_file in places.items():
        present = np.array([place is not None for place in in_file], bool)
        if present.any():
            features[key] = read(key, in_file)
            budget.check(where, f"rows of {quoted(key)}", features[key].nbytes)
        if not present.all():
            observed |= {key: present} if key in features else {}
            missing = f"{(~present).sum()} of {len(present)}"
            notes.append(f"{one_line(key, 60)} lacks {missing} ids: missing there")
    if not features:
        raise refused(where, "no features", "those of an id at least")
    frames = {key: x.lengths for key, x in features.items() if is_ragged(x)}
    return Part(features, label, budget.words(where, ids), frames, observed), tuple(notes)


def bytes_inside(folder: Path) -> int:
    """Return the size of all files in a folder, holes of sparse files included.

    Raises:
      UserError: a link in it leads out of it, or back to a folder that holds it: what it leads to
        is not the caller's to copy, and might be the input itself.
    """
    root, size, waiting = os.path.realpath(folder), 0, [str(folder)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_symlink():
                    target = os.path.realpath(entry.path)
                    held = os.path.realpath(os.path.dirname(entry.path))
                    out = os.path.commonpath([root, target]) != root
                    back = os.path.commonpath([target, held]) == target
                    if out or back:
                        where = "out of the folder" if out else "back to a folder that holds it"
                        problem = f"is a link that leads {where}"
                        raise refused(entry.path, problem, "files and folders inside it")
                    size += os.path.getsize(target) if os.path.isfile(target) else 0
                elif entry.is_dir():
                    waiting.append(entry.path)
                elif entry.is_file():
                    size += entry.stat().st_size
    return size


def copy(source: Path, target: Path, within: tuple = ()) -> None:
    """Copy a file, or a folder and all in it.

    What a link leads to is copied; a link that leads nowhere, or back to a folder that holds it,
    stays a link. Pipes and devices are left out.

    Args:
      within: the folders that hold this one, for its own use.

    Raises:
      OSError: the disk is full, or the like.
    """
    if not source.is_dir():
        shutil.copyfile(source, target)
        return
    within = (*within, os.path.realpath(source))
    target.mkdir()
    for path in sorted(source.iterdir()):
        if os.path.isfile(path) or (os.path.isdir(path) and os.path.realpath(path) not in within):
            copy(path, target / path.name, within)
        elif path.is_symlink():
            (target / path.name).symlink_to(os.readlink(path))


def plain_name(where: object, name: str) -> str:
    """Return `name`, or raise `UserError` if it is not that of a file in a folder."""
    if not name or name in (".", "..") or "/" in name or "\0" in name or len(name) > 240:
        raise refused(where, f"{quoted(name)} is no name for a file", "names without '/'")
    return name


def owner(key: str, known: Iterable[str]) -> str:
    """Return the modality of an added key: the longest name it begins with, or the first."""
    known = list(known)
    return max((name for name in known if key.startswith(name)), key=len, default=known[0])
