"""The built package works without a checkout: the command, the configs, a small run."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.end_to_end.test_docs import LITTLE
from tests.limits import HANGS

ROOT = Path(__file__).parents[2]


def run(*command, **settings):
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=HANGS, check=False, **settings
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel that is built from the source distribution."""
    folder = tmp_path_factory.mktemp("dist")
    build = (sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder)
    code, _, said = run(*build, cwd=ROOT)
    assert code == 0, said
    (source,) = folder.glob("*.tar.gz")
    pip = (sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation")
    code, _, said = run(*pip, "-w", folder, source, cwd=folder)
    assert code == 0, said
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Call the installed command in an empty folder."""
    target, empty = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("empty")
    pip = (sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", target, wheel)
    code, _, said = run(*pip)
    assert code == 0, said
    environment = os.environ | {"PYTHONPATH": str(target), "JAX_PLATFORMS": "cpu"}
    return lambda *arguments: (
        run(target / "bin" / "mmdjax", *arguments, cwd=empty, env=environment) + (empty,)
    )


def test_the_wheel_holds_configs_and_package_data_and_nothing_else_of_the_checkout(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"mmdjax"}
    for path in ("configs/synthetic.py", "configs/experiments/sota.py", "py.typed"):
        assert f"mmdjax/{path}" in names
    source = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "mmdjax").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert source <= set(names)


def test_help_fits_a_screen_and_shows_examples(installed):
    code, text, _, _ = installed("--help")
    lines = text.splitlines()
    assert code == 0 and len(lines) <= 40 and max(map(len, lines)) <= 100
    assert "Examples:" in text and "Exit status:" in text and "quickstart" in text


def test_a_shipped_config_trains_by_its_name_in_an_empty_folder(installed):
    changes = [f"--config.{change}" for change in LITTLE["configs/quickstart.py"]]
    code, _, said, folder = installed("--config=quickstart", "--workdir=run", *changes)
    assert code == 0, said
    assert (folder / "run" / "report.html").is_file()


def test_an_experiment_is_found_by_the_path_of_a_checkout_and_takes_its_argument(installed):
    config = "--config=configs/experiments/sota.py:nothing"
    code, _, said, _ = installed(config, "--workdir=other")
    assert code == 2 and "'nothing'" in said and "smoke" in said


def test_an_unknown_name_is_told_with_the_known_ones(installed):
    code, _, said, _ = installed("--config=nothing", "--workdir=other")
    assert code == 2 and "nothing" in said and "experiments/sota" in said
    assert len(said.strip().splitlines()) == 1
