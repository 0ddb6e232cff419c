"""A model as files, in other processes, and exported: the same answers, or a refusal."""

import ast
import concurrent.futures
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import mmdjax
from mmdjax import config as configs
from mmdjax.errors import UserError
from mmdjax.serving import bundle
from mmdjax.serving.export import export

from .tiny_models import NAMES, make, nan_says_missing, quick_compiling  # noqa: F401

ROOT = Path(__file__).parents[2]


def test_a_model_with_other_numbers_or_none_is_refused(served, tmp_path):
    folder = bundle.find(served[-1])
    with pytest.raises(UserError, match="holds no model"):
        mmdjax.Imputer.load(tmp_path)
    with pytest.raises(UserError, match=r"holds no model of seed 3 .found: seed_0"):
        mmdjax.Imputer.load(served[-1], seed=3)
    found = bundle.load(folder)
    copy = tmp_path / "copy"
    bundle.save(copy, found)
    flat = bundle.flatten(found.arrays)
    flat["grid"] = flat["grid"] + 1
    np.savez(copy / "arrays.npz", **flat)
    with pytest.raises(UserError, match="was changed"):
        mmdjax.Imputer.load(copy)
    (copy / "arrays.npz").write_bytes(b"PK\x03\x04 no")
    with pytest.raises(UserError, match="cannot be read"):
        mmdjax.Imputer.load(copy)


EDITS = {
    "modalities": lambda about: about["modalities"].reverse(),
    "draws": lambda about: about.update(draws=3),
    "task": lambda about: about["task"].update(low=-1.0),
    "config": lambda about: about["config"]["latents"].update(frames=2),
    "gone": lambda about: about.pop("lengths"),
    "more": lambda about: about.update(extra=1),
}


@pytest.mark.parametrize("edit", EDITS)
def test_a_signature_that_was_edited_is_refused_in_one_line(served, tmp_path, edit):
    bundle.save(tmp_path, bundle.load(bundle.find(served[-1])))
    about = json.loads((tmp_path / "signature.json").read_text())
    EDITS[edit](about)
    (tmp_path / "signature.json").write_text(json.dumps(about))
    with pytest.raises(UserError, match="was changed") as error:
        mmdjax.Imputer.load(tmp_path)
    assert "\n" not in str(error.value)


def test_a_model_is_saved_and_comes_back_the_same(served, tmp_path):
    imputer, features = served[2], served[3]
    imputer.save(tmp_path / "kept")
    again = mmdjax.Imputer.load(tmp_path / "kept", batch=8)
    given = {"language": features["language"]}
    np.testing.assert_array_equal(again.predict(given).draws, imputer.predict(given).draws)
    with pytest.raises(UserError, match="holds a model; allowed: a new folder"):
        imputer.save(tmp_path / "kept")
    with pytest.raises(UserError, match="not trained; allowed: fit it first"):
        mmdjax.Imputer().save(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def in_another_process(imputer, given):
    return imputer.predict(given).draws


def test_an_imputer_goes_to_a_process_that_is_spawned(served):
    imputer, given = served[2], {"language": served[3]["language"]}
    with concurrent.futures.ProcessPoolExecutor(
        1, multiprocessing.get_context("spawn")
    ) as processes:
        found = processes.submit(in_another_process, imputer, given).result()
    np.testing.assert_allclose(found, imputer.predict(given).draws, rtol=1e-4, atol=1e-4)
    empty = pickle.loads(pickle.dumps(mmdjax.Imputer(configs.to_dict(served[0].config))))
    assert empty.parameters is None and empty.config == served[0].config


def test_a_forked_process_says_so_and_does_not_wait(served, monkeypatch):
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(UserError, match=r"forked .* allowed: processes that are spawned"):
        served[2].predict({"language": served[3]["language"]})


LOADED = """
import sys
for name in ("flax", "mmdjax", "optax", "orbax", "ml_collections"):
    sys.modules[name] = None
import numpy as np
import loader
model = loader.load("model.mmdjax", batches=(4,))
given = np.load("given.npz")
found = model({m: given[m] for m in given.files}, seed=5)
np.savez("found.npz", draws=found["draws"], low=found["low"], **found["features"])
"""


def test_an_exported_model_answers_alike_without_flax_or_mmdjax(served, tmp_path):
    *_, imputer, features, observed, _ = served
    signature = export(imputer, tmp_path / "model.mmdjax", draws=2)
    assert signature["platforms"] == ["cpu", "cuda", "tpu"]
    with pytest.raises(UserError, match="exists"):
        export(imputer, tmp_path / "model.mmdjax")
    with zipfile.ZipFile(tmp_path / "model.mmdjax") as archive:
        archive.extract("loader.py", tmp_path)
    given = {m: np.where(observed[m][..., None], x, np.nan) for m, x in features.items()}
    np.savez(tmp_path / "given.npz", **given)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    subprocess.run(
        [sys.executable, "-c", LOADED],
        cwd=tmp_path,
        env=environment | {"JAX_PLATFORMS": "cpu"},
        check=True,
        timeout=300,
    )
    found = np.load(tmp_path / "found.npz")
    expected = imputer.predict(given, draws=2, seed=5)
    np.testing.assert_allclose(found["draws"], expected.draws, atol=1e-5)
    np.testing.assert_allclose(found["low"], expected.low, atol=1e-5)
    filled = imputer.impute(given, draws=2, seed=5)
    for m in NAMES:
        np.testing.assert_allclose(found[m].swapaxes(0, 1), filled.features[m], atol=1e-4)


def test_the_loader_is_short_and_needs_jax_and_numpy_only():
    text = (ROOT / "mmdjax" / "serving" / "loader.py").read_text()
    assert len(text.splitlines()) <= 100
    wanted = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            wanted |= {name.name.partition(".")[0] for name in node.names}
        if isinstance(node, ast.ImportFrom):
            wanted.add(node.module.partition(".")[0])
    assert wanted - set(sys.stdlib_module_names) == {"jax", "numpy"}
