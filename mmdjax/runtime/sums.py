"""SHA256SUMS of a work directory: the hashes of what a run leaves for its readers.

`sha256sum -c SHA256SUMS` checks them. What a run reads again has its checksum inside, see `files`.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from mmdjax.errors import UserError
from mmdjax.runtime.files import load_json, write_bytes

NAME = "SHA256SUMS"
SUMMED = ("results.json", "predictions.npz", "report.*", "card.png", "figures/*", "tables/*")


def write(workdir: Path) -> None:
    """Write the hashes of `SUMMED` files, after all of them."""
    paths = sorted(path for pattern in SUMMED for path in workdir.glob(pattern))
    lines = (f"{_hash(path)}  {path.relative_to(workdir).as_posix()}\n" for path in paths)
    write_bytes(workdir / NAME, "".join(lines).encode())


def changed(workdir: Path) -> list[Path]:
    """Return the files that are there and do not have the hash that SHA256SUMS gives."""
    sums = workdir / NAME
    text = sums.read_bytes().decode(errors="replace") if sums.exists() else ""
    lines = (line.partition("  ") for line in text.split("\n"))
    hashes = {workdir / name: known for known, _, name in lines if name}
    return [path for path, known in hashes.items() if path.is_file() and _hash(path) != known]


def rows_of(workdir: Path) -> list[dict[str, Any]]:
    """Return the rows of results.json.

    Raises:
      UserError: there are none, or the file is not as the run left it.
    """
    path, again = workdir / "results.json", "repeat the command of the run"
    if path in changed(workdir):
        raise UserError(f"{str(path)!r} does not match {NAME} beside it; {again}")
    return load_json(path, again)


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
