"""A trained system as one file that runs without mmdjax and flax: `loader.py` needs jax and numpy.

The file is a zip archive, nothing in it is compressed: `signature.json`; `program.stablehlo`, the
whole path (encode, complete, predict, back to features) lowered for cpu, cuda and tpu with a
symbolic number of utterances; `arrays.npz`, its numbers; `loader.py` itself, to be copied. Of a
model of conversations a row is a conversation and a frame an utterance.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

from mmdjax.errors import UserError, choice
from mmdjax.runtime.files import write_bytes
from mmdjax.serving import bundle, rows
from mmdjax.serving.imputer import Imputer
from mmdjax.serving.rows import BESIDE
from mmdjax.tasks.conformal import LEVELS

PLATFORMS = ("cpu", "cuda", "tpu")
# What calling the program takes beside its types (`jax.export.Exported`).
PROGRAM = ("calling_convention_version", "module_kept_var_idx")
FORMAT = 2


def export(
    imputer: Imputer, file: Path, draws: int | None = None, level: float = 0.9, platforms=PLATFORMS
) -> dict:
    """Write the file, whole or not at all.

    Args:
      draws: K of every answer; by default what the model was calibrated with.
      level: of its intervals.

    Returns:
      The signature.

    Raises:
      UserError: draws, level or a platform out of range, or the file exists.
    """
    choice("level", level, LEVELS)
    for platform in platforms:
        choice("platform", platform, PLATFORMS)
    draws = imputer.signature["draws"] if draws is None else draws
    if draws < 1:
        raise UserError(f"draws = {draws}; allowed: 1 or more")
    if file.exists():
        raise UserError(f"{str(file)!r} exists; allowed: a new file")
    arrays = bundle.flatten(jax.tree.map(np.asarray, imputer.parameters))
    about, modalities = imputer.signature, imputer.signature["modalities"]
    if imputer.of_conversations:
        for m in imputer.modalities:
            if m.name in BESIDE:
                known = " and ".join(BESIDE)
                raise UserError(f"modality {m.name!r}; allowed: names other than {known}")
        count = imputer.longest
        modalities = [m | {"frames": count} for m in modalities]
        named = ({"name": name, "key": name, "frames": count, "channels": 1} for name in BESIDE)
        modalities += named
    exported = _exported(imputer, arrays, modalities, draws, level, tuple(platforms))
    signature = {
        "format": FORMAT,
        "mmdjax": about["mmdjax"],
        "jax": jax.__version__,
        "title": about["title"],
        "task": about["task"],
        "platforms": list(platforms),
        "draws": draws,
        "level": level,
        "program": {name: getattr(exported, name) for name in PROGRAM},
        "frame_gaps": about["frame_gaps"] or imputer.of_conversations,
        "beside": list(BESIDE) if imputer.of_conversations else [],
        "modalities": modalities,
        # dtype and shape; of `inputs` in order: features, frames that exist (-1: find out), seed.
        "inputs": list(_types(exported.in_tree, exported.in_avals)[0][1:]),
        "outputs": _types(exported.out_tree, exported.out_avals),
    }
    write_bytes(file, _archive(signature, exported.mlir_module_serialized, arrays))
    return signature


def _exported(imputer: Imputer, arrays, modalities, draws: int, level: float, platforms):
    route = imputer.route

    def answer(arrays, features, said, seed):
        parameters, beside = bundle.nested(arrays), {}
        if imputer.of_conversations:
            features, beside, order = rows.in_order(route.modalities, features, said)
            said = {}
        encoded = route.encode(parameters, features, said, beside)
        given = (features, encoded.lengths) if route.features else None
        found = route.answer(parameters, encoded.rows, seed, given, draws, level)
        return rows.as_given(found, order, beside["valid"]) if beside else found

    batch, shape = jax_export.symbolic_shape("batch"), jax.ShapeDtypeStruct
    features = {
        m["name"]: shape((*batch, m["frames"], m["channels"]), jnp.float32) for m in modalities
    }
    said = {name: shape(batch, jnp.int32) for name in features}
    weights = {name: shape(a.shape, a.dtype) for name, a in arrays.items()}
    export = jax_export.export(jax.jit(answer), platforms=platforms)
    return export(weights, features, said, shape((), jnp.uint32))


def _types(tree, avals):
    """[dtype, 'batch' or a number, ...] of every array, in their tree."""
    shapes = ([d if isinstance(d, int) else str(d) for d in a.shape] for a in avals)
    types = [[a.dtype.name, *shape] for a, shape in zip(avals, shapes, strict=True)]
    return jax.tree.unflatten(tree, types)


def _archive(signature: dict, program: bytes, arrays: dict) -> bytes:
    numbers, whole = io.BytesIO(), io.BytesIO()
    np.savez(numbers, **arrays)
    loader = Path(__file__).with_name("loader.py").read_text()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("signature.json", json.dumps(signature, indent=1))
        archive.writestr("program.stablehlo", program)
        archive.writestr("arrays.npz", numbers.getvalue())
        archive.writestr("loader.py", loader)
    return whole.getvalue()
