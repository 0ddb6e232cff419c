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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

from mmdjax.errors import choice, require
from mmdjax.runtime.files import write_bytes
from mmdjax.serving import bundle
from mmdjax.serving.imputer import Imputer
from mmdjax.serving.rows import BESIDE

PLATFORMS = ("cpu", "cuda", "tpu")
# What calling the program takes beside its types (`jax.export.Exported`).
PROGRAM = ("calling_convention_version", "module_kept_var_idx")
FORMAT = 2


def export(
    imputer: Imputer,
    file: Path,
    draws: int | None = None,
    level: float = 0.9,
    platforms: Sequence[str] = PLATFORMS,
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
    imputer.check_settings(draws, level=level)
    for platform in platforms:
        choice("platform", platform, PLATFORMS)
    of_model = imputer.signature
    draws = of_model["draws"] if draws is None else draws
    require(not file.exists(), f"{str(file)!r} exists", "a new file")
    modalities, beside = of_model["modalities"], ()
    if imputer.of_conversations:
        beside, frames = BESIDE, {"frames": imputer.longest}
        for m in imputer.modalities:
            others = f"names other than {' and '.join(beside)}"
            require(m.name not in beside, f"modality {m.name!r}", others)
        modalities = [m | frames for m in modalities]
        modalities += [{"name": name, "key": name} | frames | {"channels": 1} for name in beside]
    arrays = bundle.flatten(jax.tree.map(np.asarray, imputer.parameters))
    exported = _exported(imputer, arrays, modalities, draws, level, tuple(platforms))
    signature = {
        "format": FORMAT,
        "mmdjax": of_model["mmdjax"],
        "jax": jax.__version__,
        "title": of_model["title"],
        "task": of_model["task"],
        "platforms": list(platforms),
        "draws": draws,
        "level": level,
        "program": {name: getattr(exported, name) for name in PROGRAM},
        "frame_gaps": of_model["frame_gaps"] or imputer.of_conversations,
        "beside": list(beside),
        "modalities": modalities,
        # dtype and shape; of `inputs` in order: features, frames that exist (-1: find out), seed.
        "inputs": list(_types(exported.in_tree, exported.in_avals)[0][1:]),
        "outputs": _types(exported.out_tree, exported.out_avals),
    }
    numbers, whole = io.BytesIO(), io.BytesIO()
    np.savez(numbers, **arrays)
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("signature.json", json.dumps(signature, indent=1))
        archive.writestr("program.stablehlo", exported.mlir_module_serialized)
        archive.writestr("arrays.npz", numbers.getvalue())
        archive.writestr("loader.py", Path(__file__).with_name("loader.py").read_text())
    write_bytes(file, whole.getvalue())
    return signature


def _exported(
    imputer: Imputer,
    arrays: Any,
    modalities: Sequence[str],
    draws: int,
    level: float,
    platforms: Sequence[str],
) -> Any:
    route = imputer.route

    def answer(arrays, features, said, seed):
        parameters, beside = bundle.nested(arrays), {}
        if imputer.of_conversations:
            features, beside, order = _in_order(route.modalities, features, said)
            said = {}
        encoded = route.encode(parameters, features, said, beside)
        given = (features, encoded.lengths) if route.features else None
        result = route.answer(parameters, encoded.rows, seed, given, draws, level)
        return _as_given(result, order, beside["valid"]) if beside else result

    batch, shape = jax_export.symbolic_shape("batch"), jax.ShapeDtypeStruct
    features = {
        m["name"]: shape((*batch, m["frames"], m["channels"]), jnp.float32) for m in modalities
    }
    said = {name: shape(batch, jnp.int32) for name in features}
    weights = {name: shape(a.shape, a.dtype) for name, a in arrays.items()}
    export = jax_export.export(jax.jit(answer), platforms=platforms)
    return export(weights, features, said, shape((), jnp.uint32))


def _types(tree: Any, avals: Sequence[Any]) -> Any:
    """Return [dtype, 'batch' or a number, ...] of every array, in their tree."""
    types = [[a.dtype.name, *(d if isinstance(d, int) else str(d) for d in a.shape)] for a in avals]
    return jax.tree.unflatten(tree, types)


def _in_order(
    modalities: Sequence[str], features: Mapping[str, jax.Array], said: Mapping[str, jax.Array]
) -> tuple[dict, dict, jax.Array]:
    """Return features and `beside` for `Route.encode`, and (R, F) the utterance at each place; jax.

    Utterances are in the order of position, those with nothing observed last, as padding.

    Args:
      features: modality -> (R, F, C_m); 'speaker' and 'position' (R, F, 1), NaN for a speaker who
        speaks throughout, and for the order in which utterances stand. Zeros count as missing.
      said: as `features` (R,) int32, utterances that are given; -1: as many as there are.
    """
    x, exists = {}, False
    for m in modalities:
        count = features[m].shape[1]
        within = (jnp.arange(count) < said[m][:, None]) | (said[m][:, None] < 0)
        seen = within & (~jnp.isnan(features[m]) & (features[m] != 0)).any(-1)
        x[m], exists = jnp.where(seen[..., None], features[m], jnp.nan), exists | seen
    place = features["position"][..., 0]
    place = jnp.where(jnp.isnan(place), jnp.arange(count, dtype=jnp.float32), place)
    place = jnp.where(exists, place, 0.0)
    speaker = jnp.where(exists, jnp.nan_to_num(features["speaker"][..., 0]), 0.0)
    order = jnp.lexsort((place, ~exists))
    beside = {"position": place, "speaker": speaker, "valid": exists}
    return *jax.tree.map(lambda a: _taken(a, order), (x, beside)), order


def _as_given(answer: dict[str, Any], order: jax.Array, exists: jax.Array) -> dict[str, Any]:
    """Return an answer in the order in which utterances were given; jax. Predictions (R, F, ...)
    are NaN or False where there is no utterance; 'features' are (R, K, F, C_m).

    Args:
      answer: of `Route.answer`. order: of `_in_order`. exists: (R, F) bool, in that order.
    """
    back = jnp.argsort(order)
    answer, exists = jax.tree.map(lambda a: _taken(a, back), (answer, exists))
    for name, a in answer.items():
        if not isinstance(a, dict):  # a prediction
            nothing = False if a.dtype == bool else jnp.nan
            answer[name] = jnp.where(exists.reshape(*exists.shape, *[1] * (a.ndim - 2)), a, nothing)
    if "features" in answer:
        answer["features"] = {m: jnp.moveaxis(x, 2, 1) for m, x in answer["features"].items()}
    return answer


def _taken(a: jax.Array, order: jax.Array) -> jax.Array:
    return jnp.take_along_axis(a, order.reshape(*order.shape, *[1] * (a.ndim - 2)), axis=1)
