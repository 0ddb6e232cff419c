"""Serving that is killed, runs out of room, or finds damage: what is there is whole, or told.

Most is in `pytest -m long`.
"""

import concurrent.futures
import io
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import time
import zipfile

import jax
import numpy as np
import pytest

import mmdjax
from benchmarks import differences
from mmdjax import config as configs
from mmdjax import workdir
from mmdjax.data import stored
from mmdjax.data.formats.inspect_file import describe
from mmdjax.data.sources import synthetic
from mmdjax.errors import UserError
from mmdjax.runtime import sums
from mmdjax.runtime.files import load_arrays, load_json, save_arrays, write_json
from mmdjax.serving import bundle, loader
from mmdjax.serving.export import export
from tests.contracts.tiny_models import make
from tests.end_to_end.runs import ROOT, kill
from tests.limits import HANGS
from tests.protocols import layout_files

ENDLESS = ("-m", "tests.end_to_end.endless")
MOMENTS, FLIPS = 20, 2000


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The folder of a model, beside a file with gaps."""
    folder = tmp_path_factory.mktemp("chaos")
    jax.config.update("jax_disable_most_optimizations", True)
    make(folder, 0.5)
    features = synthetic.read(1, 1, 9, 0)["test"].features
    np.savez(folder / "gaps.npz", **features | {"vision": features["vision"] * 0})
    yield folder / "model" / "seed_0"
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(autouse=True)
def nan_says_missing():
    with jax.debug_nans(False):
        yield


def endless(*arguments, under=()) -> subprocess.Popen:
    return subprocess.Popen(
        [*under, sys.executable, *ENDLESS, *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def whole(what: str, folder, model) -> None:
    """All that has its name in a folder is as it was to be."""
    if what == "publishing":
        try:
            found = bundle.load(folder)
        except UserError as error:  # killed between its two files
            assert str(folder) in str(error) and "\n" not in str(error)
            return
        assert_same(found, bundle.load(model))
    for path in folder.glob("[!.]*.mmdjax"):
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None and json.loads(archive.read("signature.json"))
    for path in folder.glob("[!.]*.npz") if what == "imputing" else ():
        with np.load(path) as file:
            assert all(np.isfinite(file[name]).all() for name in ("language", "vision"))


def assert_same(found: bundle.Bundle, expected: bundle.Bundle) -> None:
    assert found.signature == expected.signature
    jax.tree.map(np.testing.assert_array_equal, found.arrays, expected.arrays)


@pytest.mark.long
@pytest.mark.parametrize("what", ["publishing", "exporting", "imputing"])
def test_killed_at_random_moments_what_is_there_is_whole(what, model, tmp_path):
    shutil.copy(model.parents[1] / "gaps.npz", tmp_path)
    (folder := tmp_path / "out").mkdir()
    for _ in range(MOMENTS):
        process = endless(what, model, folder)
        for _ in range(2):  # all is compiled, and the second time has begun
            assert process.stdout.readline() == "again\n"
        time.sleep(random.uniform(0, 0.3))
        kill([process])
        whole(what, folder, model)
        shutil.rmtree(folder)
        folder.mkdir()
    bundle.save(folder, bundle.load(model))
    assert_same(bundle.load(folder), bundle.load(model))


@pytest.mark.long
@pytest.mark.parametrize("what", ["publishing", "exporting", "imputing"])
def test_a_full_disk_is_told_and_nothing_half_written_is_left(what, model, tmp_path):
    shutil.copy(model.parents[1] / "gaps.npz", tmp_path)
    (folder := tmp_path / "out").mkdir()
    mount = f"mount -t tmpfs -o size=16k tmpfs {folder}"
    alone = ("unshare", "-rm", "sh", "-c", f'{mount} && "$@"; s=$?; ls -A {folder}; exit $s', "sh")
    try:
        probe = subprocess.run([*alone, "true"], capture_output=True)
    except FileNotFoundError:
        pytest.skip("no unshare here")
    if probe.returncode:
        pytest.skip("no room of a given size can be made here")
    output = endless(what, model, folder, 1, under=alone).communicate(timeout=HANGS)[0]
    lines = output.splitlines()
    assert lines[0] == "again" and lines[1].startswith("error: ") and len(lines) == 2, output
    assert "No space left on device" in lines[1] or "free" in lines[1]


@pytest.mark.parametrize("flips", [40, pytest.param(FLIPS, marks=pytest.mark.long)])
def test_a_flipped_byte_of_a_model_is_told_or_changes_nothing(flips, model, tmp_path):
    expected = bundle.load(model)
    for name in bundle.NAMES:
        raw = (model / name).read_bytes()
        folder = shutil.copytree(model, tmp_path / name)
        for _ in range(flips):
            damage(folder / name, raw)
            try:
                found = bundle.load(folder)
            except UserError as error:
                assert name in str(error) and "\n" not in str(error)
            else:
                assert_same(found, expected)


@pytest.mark.long
def test_a_flipped_byte_of_an_exported_model_is_told_or_changes_nothing(model, tmp_path):
    export(mmdjax.Imputer.load(model, batch=8), tmp_path / "a.mmdjax", platforms=("cpu",))
    raw = (tmp_path / "a.mmdjax").read_bytes()
    names = ("signature.json", "arrays.npz", "program.stablehlo")
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        expected = [archive.read(name) for name in names]
    for _ in range(FLIPS):
        damage(tmp_path / "a.mmdjax", raw)
        try:
            loader.load(tmp_path / "a.mmdjax", batches=())
        except Exception:  # the loader has jax and numpy alone
            continue
        with zipfile.ZipFile(tmp_path / "a.mmdjax") as archive:
            assert [archive.read(name) for name in names] == expected


# Every kind of file of a run but checkpoints (see test_training.py), and what reads it.
READERS = {
    "config.json": lambda path: settled(path.parent),
    "results.json": lambda path: sums.rows_of(path.parent),
    "predictions.npz": differences.read,
    "draw_costs.json": load_json,
    "pictures/*.json": load_json,
    "masks/seed_0.npz": lambda path: workdir.keep_masks(path, MASKS),
    "systems/*/seed_0.json": load_json,
    "systems/*/seed_0.npz": load_arrays,
    "systems/*/fan.npz": load_arrays,
    "checkpoints/completions-*/seed_0/train.npz": load_arrays,
    "checkpoints/completions-*/seed_0/train.npy": lambda path: stored.open_npy(path)[:],
    "checkpoints/completions-*/seed_0/valid.npz": load_arrays,
    "SHA256SUMS": lambda path: sums.rows_of(path.parent),
}
MASKS = {"0.5": np.arange(12).reshape(4, 3) % 2 == 0}
CONFIG = configs.to_dict(configs.Config()) | {workdir.CONTENT: "data"}


def settled(folder) -> None:
    """Enter a work directory with the config that it had."""
    kept = (folder / "config.json").read_bytes()
    try:
        workdir.claim(folder, CONFIG)
    finally:
        (folder / "config.json").write_bytes(kept)


def left(folder):
    """Write a file of each kind, as a run does."""
    rng = np.random.default_rng(0)
    arrays = {"l+a/0/true": rng.normal(size=(4, 16)), "random 0.5": np.arange(16, dtype="f4")}
    rows = [{"system": "a, b", "seed": 0, "value": v} for v in (0.25, float("nan"), -1e-5)]
    labels = {"label": rng.normal(size=16), "id": np.array([f"clip {i}" for i in range(16)])}
    system, phase = folder / "systems" / "0a", folder / "checkpoints" / "completions-0a" / "seed_0"
    workdir.claim(folder, CONFIG)
    workdir.keep_masks(folder / "masks" / "seed_0.npz", MASKS)
    for path in (system / "seed_0.npz", system / "fan.npz", phase / "train.npz"):
        save_arrays(path, **arrays)
    save_arrays(phase / "valid.npz", drawn=rng.normal(size=(3, 4)))
    stored.kept_npy(phase / "train.npy", lambda: [rng.normal(size=(2, 4))] * 5, (10, 4))
    for path in (folder / "draw_costs.json", folder / "pictures" / "draws-0a.json"):
        workdir.kept(path, lambda: {"a": {"seconds": 0.125, "points": [[1, 2.5]]}})
    workdir.kept(system / "seed_0.json", lambda: {"rows": rows, "history": {}}, anew=True)
    predicted = {"a/seed 0/fixed l": arrays["random 0.5"]}
    save_arrays(folder / "predictions.npz", **labels, **predicted)
    write_json(folder / "results.json", rows)
    sums.write(folder)


@pytest.mark.parametrize("flips", [100, pytest.param(FLIPS, marks=pytest.mark.long)])
@pytest.mark.parametrize("kind", READERS)
def test_a_flipped_byte_of_what_a_run_leaves_is_told_or_changes_nothing(kind, flips, tmp_path):
    left(tmp_path)
    (path,) = tmp_path.glob(kind)
    raw, told = path.read_bytes(), 0
    expected = repr(READERS[kind](path))
    for _ in range(flips):
        damage(path, raw)
        try:
            found = repr(READERS[kind](path))
        except UserError as error:
            told += 1
            assert str(tmp_path) in str(error) and "\n" not in str(error)
            assert path.name in str(error) or kind == "config.json"
        else:
            assert found == expected
    assert told or kind == "SHA256SUMS"


def damage(path, raw: bytes) -> None:
    """Flip a bit of a byte at random."""
    flipped = bytearray(raw)
    flipped[random.randrange(len(raw))] ^= 1 << random.randrange(8)
    path.write_bytes(flipped)


@pytest.mark.parametrize("times", [2, pytest.param(50, marks=pytest.mark.long)])
def test_eight_threads_read_what_one_does(times, tmp_path):
    names = ("MMSA", "h5 by split", "npz by split", "csd folder")
    paths = [layout_files.LAYOUTS[name](tmp_path) for name in names]
    expected = [describe(path) for path in paths]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(describe, paths * times))
    assert found == expected * times


@pytest.mark.long
def test_three_hundred_calls_of_growing_size_take_no_more_memory(model):
    imputer = mmdjax.Imputer.load(model, batch=8)
    features = synthetic.read(1, 1, 300, 0)["test"].features
    features = features | {"vision": features["vision"] * 0}
    imputer.predict({m: x[:20] for m, x in features.items()}, draws=1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answers = [
        imputer.predict({m: x[:n] for m, x in features.items()}, draws=1).mean
        for n in range(1, 301)
    ]
    for n, answer in enumerate(answers, 1):
        np.testing.assert_array_equal(answer, answers[-1][:n])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 2**10  # KiB
