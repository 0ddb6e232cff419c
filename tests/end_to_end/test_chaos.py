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
from mmdjax.data.formats.inspect_file import describe
from mmdjax.data.sources import synthetic
from mmdjax.errors import UserError
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
