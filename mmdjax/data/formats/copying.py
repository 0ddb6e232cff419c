"""Folders copied, and what the layouts of folders share in writing them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from mmdjax.data.formats import npy
from mmdjax.data.formats.lazy import one_line
from mmdjax.errors import UserError


def copy_folder(source: Path, target: Path, within: tuple = ()) -> None:
    """Copies the files of a folder and of those in it.

    What a link leads to is copied; a link that leads nowhere, or back to a folder that holds it,
    stays a link. Pipes and devices are left out.

    Args:
      within: the folders that hold this one, for its own use.

    Raises:
      OSError: the disk is full, or the like.
    """
    within = (*within, os.path.realpath(source))
    target.mkdir()
    for path in sorted(source.iterdir()):
        copied = target / path.name
        if os.path.isdir(path) and os.path.realpath(path) not in within:
            copy_folder(path, copied, within)
        elif os.path.isfile(path):
            shutil.copyfile(path, copied)
        elif path.is_symlink():
            copied.symlink_to(os.readlink(path))


def plain_name(where: str, name: str) -> str:
    """`name`, if it is that of a file in a folder and leads nowhere else; else `UserError`."""
    if not name or name in (".", "..") or "/" in name or "\0" in name or len(name) > 240:
        raise UserError(
            f"{where}: {one_line(name, 60)!r} is no name for a file; allowed: names without '/'"
        )
    return name


def write_npy(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # a link would lead elsewhere
    with path.open("wb") as file:
        npy.write(file, array)


def owner(key: str, known: Iterable[str]) -> str:
    """The modality that an added key belongs to: the longest name it begins with, or the first."""
    known = list(known)
    fitting = [name for name in known if key.startswith(name)]
    return max(fitting, key=len, default=known[0])


def lacks(key: str, present: np.ndarray) -> tuple[str, ...]:
    """A note on the rows that lack a modality, if there are any."""
    missing = int((~present).sum())
    what = f"{one_line(key, 60)} lacks {missing} of {len(present)} ids: missing there"
    return (what,) if missing else ()
