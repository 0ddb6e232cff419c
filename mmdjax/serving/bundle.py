"""A trained system as two files that need neither its data nor its checkpoints.

`signature.json` says what goes in and out, and how it was made; `arrays.npz` holds the numbers.
Loading reads these two files and nothing else.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from mmdjax.errors import UserError
from mmdjax.runtime.files import load_arrays, save_arrays, write_json

FORMAT = 2
NAMES = ("signature.json", "arrays.npz")


class Bundle(NamedTuple):
    """signature: plain values. arrays: nested dicts of numpy arrays."""

    signature: dict[str, Any]
    arrays: dict[str, Any]


def save(folder: Path, bundle: Bundle) -> None:
    """Write both files; the signature last, so that a folder with one is whole."""
    flat = flatten(bundle.arrays)
    (folder / NAMES[0]).unlink(missing_ok=True)
    save_arrays(folder / NAMES[1], **flat)
    about = {"format": FORMAT, "checksum": checksum(flat)}
    write_json(folder / NAMES[0], about | bundle.signature)


def load(folder: Path) -> Bundle:
    """Return what `save` wrote.

    Raises:
      UserError: it is not there, is of another format, or holds other numbers than were saved.
    """
    signature = folder / NAMES[0]
    try:
        about = json.loads(signature.read_text())
        found = about["format"], about["checksum"]
    except OSError as error:
        raise UserError(
            f"{str(signature)!r}: {error.strerror}; allowed: a folder that training left, or its "
            "workdir"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise UserError(
            f"{str(signature)!r} is not a model's signature; allowed: one that training wrote"
        ) from None
    if found[0] != FORMAT:
        raise UserError(
            f"{str(signature)!r} has format {found[0]!r}, of another version; allowed: {FORMAT}; "
            "run --mode=train in a new workdir"
        )
    try:
        flat = load_arrays(folder / NAMES[1])
    except Exception as error:  # whatever a damaged file leads to
        text = " ".join(str(error).split())[:100]
        raise UserError(
            f"{str(folder / NAMES[1])!r} cannot be read ({type(error).__name__}: {text}); copy the "
            "model again, or run --mode=evaluate on its workdir"
        ) from None
    if checksum(flat) != found[1]:
        raise UserError(
            f"{str(folder / NAMES[1])!r} holds other numbers than {NAMES[0]} says; copy the model "
            "again, or run --mode=evaluate on its workdir"
        )
    return Bundle(about, nested(flat))


def find(folder: Path, seed: int | None = None) -> Path:
    """Return the folder of a model, given it or the work directory of the run that trained it.

    Args:
      seed: of the run; its first by default.

    Raises:
      UserError: there is none.
    """
    if (folder / NAMES[0]).is_file():
        return folder
    found = sorted(folder.glob(f"model/seed_*/{NAMES[0]}"), key=lambda p: int(p.parent.name[5:]))
    found = [p.parent for p in found]
    names = ", ".join(p.name for p in found) or "none"
    if seed is not None:
        found = [p for p in found if p.name == f"seed_{seed}"]
    if not found:
        wanted = "model" if seed is None else f"model of seed {seed}"
        raise UserError(
            f"{str(folder)!r} holds no {wanted} (found: {names}); allowed: the workdir of a "
            "finished run of a method that can be served, or the folder of a model"
        )
    return found[0]


def flatten(tree: dict) -> dict[str, np.ndarray]:
    """Return 'a/b' -> array, of nested dicts."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {"/".join(str(k.key) for k in path): np.asarray(a) for path, a in leaves}


def nested(flat: dict[str, np.ndarray]) -> dict:
    """Return nested dicts, the inverse of `flatten`."""
    tree: dict = {}
    for name, array in flat.items():
        *parents, last = name.split("/")
        place = tree
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = array
    return tree


def checksum(flat: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(flat):
        a = np.ascontiguousarray(flat[name])
        digest.update(f"{name} {a.dtype.str} {a.shape}".encode())
        digest.update(a)
    return digest.hexdigest()[:16]
