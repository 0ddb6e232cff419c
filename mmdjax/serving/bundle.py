"""A trained system as two files that need neither its data nor its checkpoints.

`signature.json` says what goes in and out, and how it was made; `arrays.npz` holds the numbers.
Loading reads these two files and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import mmdjax
from mmdjax import config as configs
from mmdjax.errors import UserError, require
from mmdjax.methods.method import Method
from mmdjax.runtime import processes
from mmdjax.runtime.files import checksum, load_arrays, save_arrays, write_json
from mmdjax.serving.inputs import Modality

FORMAT = 5
NAMES = ("signature.json", "arrays.npz")
AGAIN = "copy the model again, or run --mode=evaluate on its workdir"


class Bundle(NamedTuple):
    """signature: plain values. arrays: nested dicts of numpy arrays."""

    signature: dict[str, Any]
    arrays: dict[str, Any]


def publish(
    method: Method, params: Mapping[str, Any], seed: int, folder: Path, content: str
) -> None:
    """Write the model of one seed into `folder`.

    Args:
      method: with its data, of which 'train' and 'valid' are read. params: phase -> parameters.
      content: names the data.

    Raises:
      UserError: the method cannot be served.
    """
    served = method.server().served(method, params, seed)
    if not processes.is_first():
        return
    config, modalities = method.config, []
    keys = {name: key for key, name in config.data.names_by_key().items()}
    for m, x in method.dataset.splits["train"].features.items():
        # Of a conversation one vector an utterance.
        frames = 1 if method.sees == "conversations" else x.shape[1]
        explained = round(served.explained[m], 4) if m in served.explained else None
        modalities.append(Modality(m, keys.get(m, m), frames, x.shape[2], explained)._asdict())
    signature = {
        "mmdjax": mmdjax.__version__,
        "title": config.title,
        "modalities": modalities,
        "task": method.task.describe(),
        "draws": config.evaluation.draws if method.draws else 1,
        "seed": seed,
        "data": content,
        "config": configs.to_dict(config),
    }
    save(folder, Bundle(signature | served.about, jax.tree.map(np.asarray, served.arrays)))


def save(folder: Path, bundle: Bundle) -> None:
    """Write both files; the signature last, so that a folder with one is whole."""
    flat = flatten(bundle.arrays)
    (folder / NAMES[0]).unlink(missing_ok=True)
    save_arrays(folder / NAMES[1], **flat)
    about = {name: value for name, value in bundle.signature.items() if name != "checksum"}
    about["format"] = FORMAT
    write_json(folder / NAMES[0], about | {"checksum": checksum(flat, about)})


def load(folder: Path) -> Bundle:
    """Return what `save` wrote.

    Raises:
      UserError: it is not there, is of another format, or either file is not as it was saved.
    """
    path = folder / NAMES[0]
    name = repr(str(path))
    try:
        signature = json.loads(path.read_text())
        version, expected = signature["format"], signature["checksum"]
    except OSError as error:
        allowed = "a folder that training left, or its workdir"
        raise UserError(f"{name}: {error.strerror}; allowed: {allowed}") from None
    except (ValueError, KeyError, TypeError):
        allowed = "one that training wrote"
        raise UserError(f"{name} is not a model's signature; allowed: {allowed}") from None
    problem = f"{name} has format {version!r}, of another version"
    require(version == FORMAT, problem, f"{FORMAT}; run --mode=train in a new workdir")
    flat = load_arrays(folder / NAMES[1], AGAIN)
    about = {key: value for key, value in signature.items() if key != "checksum"}
    if checksum(flat, about) != expected:
        raise UserError(f"{name} or {NAMES[1]} beside it was changed; {AGAIN}")
    return Bundle(signature, nested(flat))


def find(folder: Path, seed: int | None = None) -> Path:
    """Return the folder of a model, given it or the work directory of the run that trained it.

    Args:
      seed: of the run; its first by default.

    Raises:
      UserError: there is none.
    """
    if (folder / NAMES[0]).is_file():
        return folder
    models = {int(p.parent.name[5:]): p.parent for p in folder.glob(f"model/seed_*/{NAMES[0]}")}
    if not models or seed not in {None, *models}:
        names = ", ".join(models[number].name for number in sorted(models)) or "none"
        model = "model" if seed is None else f"model of seed {seed}"
        raise UserError(
            f"{str(folder)!r} holds no {model} (found: {names}); allowed: the workdir of a "
            "finished run of a method that can be served, or the folder of a model"
        )
    return models[min(models) if seed is None else seed]


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
