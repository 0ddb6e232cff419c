"""Every mistake of a user: one line that names the value and what is allowed, exit status 2."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mmdjax import config as configs
from mmdjax.errors import UserError
from tests.end_to_end.conftest import refusal
from tests.limits import HANGS

ROOT = Path(__file__).parents[2]


def of_a_process(*arguments):
    """The same from a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "mmdjax.main", *arguments],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=HANGS,
    )
    return done.returncode, done.stderr


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Broken data files by name."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "truncated.pkl").write_bytes(pickle.dumps({"train": list(range(1000))})[:-30])
    (folder / "hostile.pkl").write_bytes(b"cos\nsystem\n(S'touch sentinel'\ntR.")
    return folder


SYNTHETIC = "--config=configs/synthetic.py"
MOSI = "--config=configs/mosi_speed.py"


HOSTILE = ([MOSI, "--workdir=W", "--config.data.path=F/hostile.pkl"], ["os.system", "numpy"])
MISTAKES = [
    ([], ["--config is missing", " synthetic,"]),
    (
        ["--config=configs/nothing.py", "--workdir=W"],
        ["configs/nothing.py", " synthetic,"],
    ),
    ([SYNTHETIC], ["--workdir is missing"]),
    ([SYNTHETIC, "--workdir=W", "--mode=tune"], ["'tune'", "train, evaluate"]),
    ([SYNTHETIC, "--workdir=W", "--config.nothing=1"], ["nothing"]),
    ([SYNTHETIC, "--workdir=W", "--config.seeds=('a',)"], ["seeds", "'a'"]),
    ([SYNTHETIC, "--workdir=W", "--config.diffusion.sampler=ode"], ["'ode'", "ddim"]),
    ([SYNTHETIC, "--workdir=W", "--config.data.name=mosei"], ["'mosei'", "synthetic", "mmsa"]),
    (
        [SYNTHETIC, "--workdir=W", "--config.evaluation.rates=(0.8,)"],
        ["0.8", "0.0 to 0.667, or 0.7"],
    ),
    ([SYNTHETIC, "--workdir=W", "extra"], ["'extra'", "--config"]),
    (["--config=configs/mosi_speed.py:huge", "--workdir=W"], ["huge", "compact, thesis"]),
    ([MOSI, "--workdir=W"], ["data.path is empty"]),
    (["--config=configs/experiments/sota.py:huge", "--workdir=W"], ["huge", "smoke, real"]),
    (["--config=configs/experiments/sota.py:real", "--workdir=W"], ["data.path is empty"]),
    (
        [SYNTHETIC, "--workdir=W", "--config.fills=('draws',)"],
        ["config.fills has a new name", "config.systems"],
    ),
    (
        [SYNTHETIC, "--workdir=W", "--config.graph.variants=('dense',)"],
        ["config.graph.variants has a new name", "config.graph.variant"],
    ),
    (
        [SYNTHETIC, "--workdir=W", "--config.systems=('zeros',)"],
        ["'zeros'", "zero_trained"],
    ),
    (
        [SYNTHETIC, "--workdir=W", "--config.method=bayes_alone"],
        ["bayes_alone", "synthetic_conversations"],
    ),
    ([MOSI, "--workdir=W", "--config.data.path=none.pkl"], ["'none.pkl'", "not a file"]),
    ([MOSI, "--workdir=W", "--config.data.path=F/truncated.pkl"], ["truncated.pkl"]),
    HOSTILE,
    (
        [MOSI, "--workdir=W", "--config.data.modalities=('text',)"],
        ["'text'", "'key in file:name'"],
    ),
]


@pytest.mark.parametrize(("arguments", "words"), MISTAKES)
def test_a_mistake_is_one_line_and_exit_status_2(arguments, words, command, files, tmp_path):
    refused(command, arguments, words, files, tmp_path / "run")


@pytest.mark.parametrize(("arguments", "words"), [MISTAKES[1], HOSTILE])
def test_so_it_is_in_a_process_of_its_own(arguments, words, files, tmp_path):
    refused(of_a_process, arguments, words, files, tmp_path / "run")


def refused(command, arguments, words, files, workdir):
    arguments = [a.replace("=F/", f"={files}/").replace("=W", f"={workdir}") for a in arguments]
    message = refusal(command(*arguments), workdir)
    for word in words:
        assert word in message
    assert not (ROOT / "sentinel").exists() and not Path("sentinel").exists()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"dat": {}}, "config field 'dat' is unknown; allowed: title"),
        ({"data": {"pth": ""}}, "config.data field 'pth' is unknown; allowed: name, path"),
        ({"data": 3}, "config.data = 3 is not a group of fields"),
        ({"score": {"width": 30, "heads": 4}}, "width 30 is not divisible by 4 heads"),
        ({"score": {"width": "wide"}}, "config.score.width = 'wide' is not of type int"),
        ({"score": {"width": True}}, "config.score.width = True is not of type int"),
        (
            {"diffusion": {"nfe": 0}},
            "sampler 'ddim' cannot spend NFE 0 exactly; allowed: a positive number",
        ),
        ({"fusion": {"dropout": 1.0}}, "config.fusion.dropout = 1.0; allowed: at least 0"),
        ({"seeds": ()}, "config.seeds is empty"),
        ({"seeds": (1, 1)}, "config.seeds = (1, 1); allowed: different"),
        ({"diffusion": {"grid": "x"}}, "'x' is unknown; allowed: uniform, quadratic"),
        ({"diffusion": {"coupling": "x"}}, "'x' is unknown; allowed: chain, independent"),
        ({"data": {"length_buckets": (8, 4)}}, "allowed: increasing lengths"),
        ({"data": {"path": "x.pkl"}}, "fixed for synthetic data"),
        ({"data": {"name": "mmsa", "modalities": ("a:x", "a:y")}}, "at least two different"),
        ({"data": {"name": "mmsa", "modalities": ("a:x", "b:x")}}, "at least two different"),
        ({"score": {"time_features": 9}}, "config.score.time_features = 9; allowed: an even"),
    ],
)
def test_a_wrong_value_in_a_config_is_refused(values, words):
    with pytest.raises(UserError) as error:
        configs.from_dict(values)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_a_config_survives_the_way_to_json_and_back():
    config = configs.from_dict(
        {"seeds": (3, 4), "data": {"name": "mmsa", "modalities": ("a:b", "c:d", "e:f")}}
    )
    assert configs.from_dict(configs.to_dict(config)) == config


def test_what_went_well_ends_with_status_0(command, tmp_path):
    source = tmp_path / "rows.npz"
    np.savez(source, language=np.ones((4, 3, 2), np.float32), label=np.zeros(4, np.float32))
    status, message = command("--mode=inspect", f"--input={source}")
    assert not status and not message


@pytest.mark.parametrize(
    "arguments", [("--help",), ("--helpfull",), ("--mode=inspect", "--input=x.npz")]
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_nobody_reads_is_no_mistake(arguments, unbuffered, tmp_path):
    """As after `| head`: no traceback and no message."""
    np.savez(tmp_path / "x.npz", text=np.zeros((3, 2)))
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "mmdjax.main", *arguments],
        cwd=tmp_path,
        env=os.environ
        | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": unbuffered},
        stdout=writing,
        stderr=subprocess.PIPE,
        timeout=HANGS,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")
