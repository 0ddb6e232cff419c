"""Files that are whole or absent: each is written beside its place, then renamed into it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np


def cache_folder() -> Path:
    """Returns the folder of prepared data and programs: $MMDJAX_CACHE or the user's cache."""
    if folder := os.environ.get("MMDJAX_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmdjax"


@contextlib.contextmanager
def locked(path: Path, wait: bool = False) -> Iterator[None]:
    """Holds a lock file; the system releases it when the process ends, however it ends.

    On a file system without locks nothing is held.

    Args:
      wait: until another process releases it.

    Raises:
      BlockingIOError: another process holds it and `wait` is False; the message names the process.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            file.seek(0)
            raise BlockingIOError(file.read() or "another run") from None
        except OSError:
            yield
            return
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}")
        file.flush()
        yield


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Yields the name of a temporary file beside `path`, which replaces it unless writing fails.

    Raises:
      OSError: it cannot be written, as on a full disk; it says which file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex}.tmp{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.filename is not None:
            raise
        reason = f"cannot be written: {error.strerror or error}"
        raise OSError(error.errno, reason, str(path)) from None
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    with replaced(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    write_bytes(path, json.dumps(value, indent=1, sort_keys=False).encode())


def save_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Writes a .npz file."""
    with replaced(path) as temporary:
        np.savez(temporary, **arrays)


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def csv_cell(text: str) -> str:
    """Return a name as a cell of a CSV file that a spreadsheet shows and does not run.

    What begins like a formula and is no number has a ' before it; control characters are written
    out, as in '\\x1b'.
    """
    text = re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda found: f"\\x{ord(found[0]):02x}", text)
    if text[:1] not in ("=", "+", "-", "@") or not text:
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text
