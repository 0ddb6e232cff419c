"""Answers with an exported mmdjax model; needs jax and numpy, nothing of mmdjax. Copy it freely:

>>> model = load("model.mmdjax", cache="compiled")
>>> answer = model({"language": x, "acoustic": None})  # x (N, T, C); NaN is missing
>>> print(answer["mean"], answer["features"]["acoustic"].shape)
"""

import dataclasses
import io
import json
import zipfile

import jax
import numpy as np
from jax import export


class Model:
    def __init__(
        self, signature: dict, program: bytes, arrays: dict, batches: tuple = (1, 8, 64)
    ) -> None:
        self.signature, self.batches, self.beside = signature, batches, signature["beside"]
        self.shapes = {m["name"]: (m["frames"], m["channels"]) for m in signature["modalities"]}
        self._arrays = jax.device_put(arrays)
        self._program = jax.jit(_exported(self, program).call)  # JAX makes one for each batch size

    def __call__(self, features: dict, seed: int = 0) -> dict:
        """Complete and predict N utterances; `ValueError` names modality and utterance.

        Args:
          features: modality -> (N, T, C) array, or N arrays (T_i, C) or None; None or no entry
            where all lack it; or `padded`. NaN is missing, zeros that end an array are padding.
          seed: of the draws; an utterance's depend on it and its own values alone.

        Returns:
          Predictions 'draws' (N, K, ...), their 'mean', 'spread', and 'low' and 'high' or 'within';
          by modality 'features' (N, K, T, C), 'drawn', 'exists' (N, T) and 'deviation' (N,).
        """
        x, said = features if isinstance(features, tuple) else self.padded(features)
        rows, answers, most = len(next(iter(said.values()))), [], self.batches[-1]
        for start in range(0, rows, most):
            count = min(rows - start, most)
            at = start + np.arange(next(b for b in self.batches if b >= count)) % count  # repeats
            inputs = ({m: a[at] for m, a in tree.items()} for tree in (x, said))
            answer = self._program(self._arrays, *inputs, np.uint32(seed))
            answers.append(jax.tree.map(lambda a, n=count: np.asarray(a)[:n], answer))
        return jax.tree.map(lambda *a: np.concatenate(a), *answers)

    def padded(self, features: dict) -> tuple[dict, dict]:
        rows = {len(x) for x in features.values() if x is not None}
        if set(features) - set(self.shapes) or len(rows) != 1:
            problem = f"{list(features)} of {sorted(rows)} rows"
            raise ValueError(f"{problem}; allowed: {list(self.shapes)}, as many of each")
        x = {m: np.full((*rows, *shape), np.nan, np.float32) for m, shape in self.shapes.items()}
        said = {m: np.full(len(a), -1, np.int32) for m, a in x.items()}  # -1: found out
        for m, column in features.items():
            given = enumerate([] if column is None else column)
            for row, value in (pair for pair in given if pair[1] is not None):
                if np.shape(value)[1:] != self.shapes[m][1:] or len(value) > self.shapes[m][0]:
                    raise ValueError(f"{m}, {row}: {np.shape(value)}; allowed: {self.shapes[m]}")
                value = np.asarray(value, np.float32)
                gaps = 0 < np.isnan(value).all(-1).sum() < len(value)
                if np.isposinf(value).any() or (gaps and not self.signature["frame_gaps"]):
                    raise ValueError(f"{m}, {row}: inf, or lacks some frames; allowed: all or none")
                x[m][row, len(value) :] = np.nan if m in self.beside else 0
                x[m][row, : len(value)] = value
                said[m][row] = -1 if isinstance(column, np.ndarray) else len(value)
        if not all(sum(np.nan_to_num(x[m]).any((1, 2)) for m in x if m not in self.beside)):
            raise ValueError("an utterance has nothing observed; allowed: one modality or more")
        return x, said


def _exported(model: Model, program: bytes) -> export.Exported:
    """Return the program with an empty function's types; `export.deserialize` needs flatbuffers."""
    signature, struct = model.signature, jax.ShapeDtypeStruct

    def typed(make, types, rows):
        array = lambda t: make([rows if n == "batch" else n for n in t[1:]], t[0])  # noqa: E731
        return jax.tree.map(array, types, is_leaf=lambda t: isinstance(t, list))

    def empty(arrays, features, said, seed):
        return typed(jax.numpy.zeros, signature["outputs"], next(iter(said.values())).shape[0])

    weights = jax.tree.map(lambda a: struct(a.shape, a.dtype), model._arrays)
    (batch,) = export.symbolic_shape("batch")
    inputs = (typed(struct, types, batch) for types in signature["inputs"])
    exported = export.export(jax.jit(empty), platforms=signature["platforms"])(weights, *inputs)
    called = {k: tuple(v) if isinstance(v, list) else v for k, v in signature["program"].items()}
    return dataclasses.replace(exported, mlir_module_serialized=program, **called)


def load(file: object, cache: object = None, batches: tuple = (1, 8, 64)) -> Model:
    """Return the model in `file`; compiled programs are kept in the folder `cache`."""
    if cache:
        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    with zipfile.ZipFile(file) as archive:
        signature = json.loads(archive.read("signature.json"))
        arrays = dict(np.load(io.BytesIO(archive.read("arrays.npz")), allow_pickle=False))
        return Model(signature, archive.read("program.stablehlo"), arrays, batches)
