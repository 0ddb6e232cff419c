"""Answers with an exported mmdjax model; needs jax and numpy, nothing of mmdjax. Copy it freely:

>>> model = load("model.mmdjax", cache="compiled")
>>> found = model({"language": x, "acoustic": None})  # x (N, T, C); frames with NaN are missing
>>> print(found["mean"], found["features"]["acoustic"].shape)
"""

import dataclasses
import io
import json
import zipfile

import jax
import numpy as np
from jax import export


class Model:
    def __init__(self, signature, program, arrays, batches=(1, 8, 64)):
        self.signature, self.batches, self.beside = signature, batches, signature["beside"]
        self.shapes = {m["name"]: (m["frames"], m["channels"]) for m in signature["modalities"]}
        self._arrays = jax.device_put(arrays)
        self._program = jax.jit(_exported(self, program).call)  # JAX makes one for each batch size

    def __call__(self, features, seed=0):
        """Completes and predicts N utterances; `ValueError` names modality and utterance.

        Args:
          features: modality -> (N, T, C) array, or N arrays (T_i, C) or None; None or no entry
            where all lack it. NaN is missing, zeros at the end of an array are padding.
          seed: of the draws; an utterance's depend on it and its own values alone.

        Returns:
          Predictions 'draws' (N, K, ...), their 'mean', 'spread', and 'low' and 'high' or 'within';
          by modality 'features' (N, K, T, C), 'drawn', 'exists' (N, T) and 'deviation' (N,).
        """
        (x, said, rows), parts, start = self._padded(features), [], 0
        while start < rows:
            size = next((b for b in self.batches if b >= rows - start), self.batches[-1])
            at = start + np.arange(size) % (count := min(size, rows - start))  # some repeated
            part = [{m: a[at] for m, a in tree.items()} for tree in (x, said)]
            found = self._program(self._arrays, *part, np.uint32(seed))
            parts.append(jax.tree.map(lambda a, n=count: np.asarray(a)[:n], found))
            start += count
        return jax.tree.map(lambda *a: np.concatenate(a), *parts)

    def _padded(self, features):
        rows = {len(x) for x in features.values() if x is not None}
        if set(features) - set(self.shapes) or len(rows) != 1:
            what = f"{list(features)} of {sorted(rows)} rows"
            raise ValueError(f"{what}; allowed: {list(self.shapes)}, as many of each")
        x = {m: np.full((*rows, *shape), np.nan, np.float32) for m, shape in self.shapes.items()}
        said = {m: np.full(len(a), -1, np.int32) for m, a in x.items()}  # -1: found out
        for m, given in features.items():
            for row, one in enumerate([] if given is None else given):
                if one is None:
                    continue
                if np.shape(one)[1:] != self.shapes[m][1:] or len(one) > self.shapes[m][0]:
                    raise ValueError(f"{m}, {row}: {np.shape(one)}; allowed: {self.shapes[m]}")
                one = np.asarray(one, np.float32)
                gaps = 0 < np.isnan(one).any(-1).sum() < len(one)
                if np.isposinf(one).any() or (gaps and not self.signature["frame_gaps"]):
                    raise ValueError(f"{m}, {row}: inf, or lacks some frames; allowed: all or none")
                x[m][row, len(one) :] = np.nan if m in self.beside else 0
                x[m][row, : len(one)] = one
                said[m][row] = -1 if isinstance(given, np.ndarray) else len(one)
        if not all(sum(np.nan_to_num(x[m]).any((1, 2)) for m in x if m not in self.beside)):
            raise ValueError("an utterance has nothing observed; allowed: one modality or more")
        return x, said, *rows


def _exported(model, program):
    """The program with its types: those of an empty function, exported here, since
    `export.deserialize` would need flatbuffers."""
    signature, struct = model.signature, jax.ShapeDtypeStruct

    def typed(make, types, rows):
        one = lambda t: make([rows if n == "batch" else n for n in t[1:]], t[0])  # noqa: E731
        return jax.tree.map(one, types, is_leaf=lambda t: isinstance(t, list))

    def empty(arrays, features, said, seed):
        return typed(jax.numpy.zeros, signature["outputs"], next(iter(said.values())).shape[0])

    weights = jax.tree.map(lambda a: struct(a.shape, a.dtype), model._arrays)
    (batch,) = export.symbolic_shape("batch")
    inputs = (typed(struct, types, batch) for types in signature["inputs"])
    made = export.export(jax.jit(empty), platforms=signature["platforms"])(weights, *inputs)
    called = {k: tuple(v) if isinstance(v, list) else v for k, v in signature["program"].items()}
    return dataclasses.replace(made, mlir_module_serialized=program, **called)


def load(file, cache=None, batches=(1, 8, 64)):
    """The model in `file`; a second start finds its compiled programs in the folder `cache`."""
    if cache:
        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    with zipfile.ZipFile(file) as archive:
        signature = json.loads(archive.read("signature.json"))
        arrays = dict(np.load(io.BytesIO(archive.read("arrays.npz")), allow_pickle=False))
        return Model(signature, archive.read("program.stablehlo"), arrays, batches)
