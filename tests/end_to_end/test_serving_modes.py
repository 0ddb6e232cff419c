"""--mode=impute, predict and export: what they say, and what they leave when they are ended."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mmdjax.data.sources import synthetic
from mmdjax.serving import files, imputer
from mmdjax.serving.bundle import publish
from tests.limits import HANGS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def no_model(monkeypatch):
    """Any workdir holds a model, which answers nothing."""
    model = SimpleNamespace(check_settings=imputer.Imputer.check_settings)
    monkeypatch.setattr(imputer.Imputer, "load", lambda *_: model)


@pytest.fixture(scope="module")
def model(tiny_trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    method, params, *_ = tiny_trained("two_stage")
    publish(method, params, 0, folder / "model" / "seed_0", "data")
    return folder


@pytest.mark.parametrize(
    ("flag", "told"),
    [
        ("--draws=-3", "draws = -3; allowed: a whole number from 1 to 1024"),
        ("--draws=100000", "draws = 100000; allowed: a whole number from 1 to 1024"),
        ("--level=2", "level"),
        ("--seed=-1", "seed = -1"),
        ("--modalities=words", "--modalities: 'words'; allowed: KEY:NAME"),
    ],
)
@pytest.mark.parametrize("mode", ["impute", "predict"])
def test_a_setting_out_of_range_is_told_without_blaming_the_file(
    mode, flag, told, command, no_model, tmp_path
):
    places = (f"--input={tmp_path}/gaps.npz", f"--output={tmp_path}/new", f"--workdir={tmp_path}")
    status, said = command(f"--mode={mode}", *places, flag)
    assert status == 2 and told in said and "gaps.npz" not in said


def test_a_full_disk_is_told_with_the_name_of_the_output(command, no_model, monkeypatch, tmp_path):
    def impute(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files, "impute", impute)
    output = f"{tmp_path}/filled.npz"
    places = (f"--input={tmp_path}/gaps.npz", f"--output={output}", f"--workdir={tmp_path}")
    assert command("--mode=impute", *places) == (
        2,
        f"mmdjax: {output}: No space left on device\n",
    )


@pytest.mark.parametrize(
    ("number", "status", "told"),
    [
        (signal.SIGTERM, 128 + signal.SIGTERM, ""),
        (signal.SIGINT, 130, "mmdjax: interrupted; nothing was written\n"),
    ],
)
def test_an_ended_impute_leaves_neither_output_nor_temporary_files(
    number, status, told, model, tmp_path
):
    features = {m: np.tile(x, (3000, 1, 1)) for m, x in _one().items()}
    features["vision"][:] = np.nan
    np.savez(tmp_path / "gaps.npz", **features)
    place = tmp_path / "out"
    place.mkdir()
    arguments = ("--mode=impute", f"--workdir={model}", f"--input={tmp_path / 'gaps.npz'}")
    started = subprocess.Popen(
        [sys.executable, "-m", "mmdjax.main", *arguments, f"--output={place / 'filled.npz'}"],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # tests may be started with &
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    while not any(place.iterdir()) and started.poll() is None:
        time.sleep(0.01)
    started.send_signal(number)
    _, said = started.communicate(timeout=HANGS)
    assert (started.returncode, said) == (status, told)
    assert not any(place.iterdir())


def _one():
    return synthetic.read(1, 1, 10, seed=0)["test"].features
