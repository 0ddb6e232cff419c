"""Files that are whole or absent: each is written beside its place, then renamed into it."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mmdjax.errors import UserError

AGAIN = "delete it and repeat the command"


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


def save_json(path: Path, value: Any) -> None:
    """Writes a value with its checksum, for `load_json`."""
    value = json.loads(json.dumps(value))
    write_json(path, {"checksum": checksum({}, value), "value": value})


def load_json(path: Path, again: str = AGAIN) -> Any:
    """Returns what `save_json` wrote, or a value without a checksum, as earlier versions wrote it.

    Args:
      again: how the user gets a sound file in place of a damaged one.

    Raises:
      UserError: it cannot be read, or is not as it was written.
    """
    try:
        saved = json.loads(path.read_bytes())
    except Exception as error:  # whatever a damaged file leads to
        raise _unreadable(path, error, again) from None
    if not isinstance(saved, dict) or not {"checksum", "value"} & saved.keys():
        return saved
    if checksum({}, saved.get("value")) != saved.get("checksum"):
        raise UserError(f"{str(path)!r} was changed; {again}")
    return saved["value"]


def save_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Writes a .npz file; its first entry, 'checksum', covers the other ones.

    A damaged directory of a zip file can hide its last entries, and not the first of them alone.
    """
    with replaced(path) as temporary:
        np.savez(temporary, checksum=np.array(checksum(arrays)), **arrays)


def load_arrays(path: Path, again: str = AGAIN) -> dict[str, np.ndarray]:
    """Returns the arrays of a .npz file, with or without a checksum.

    Args, Raises: as `load_json`.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:  # whatever a damaged file leads to
        raise _unreadable(path, error, again) from None
    expected = arrays.pop("checksum", None)
    sound = arrays if expected is None else checksum(arrays) == str(expected)
    if not sound:
        raise UserError(f"{str(path)!r} was changed; {again}")
    return arrays


def checksum(arrays: Mapping[str, np.ndarray], about: Any = None) -> str:
    """Returns 16 hexadecimal digits of named arrays and of plain values beside them."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(arrays):
        a = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {a.dtype.str} {a.shape}".encode())
        digest.update(a)
    return digest.hexdigest()[:16]


def _unreadable(path: Path, error: Exception, again: str) -> UserError:
    text = f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
    return UserError(f"{str(path)!r} cannot be read ({text}); {again}")


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
