"""What the documentation's pages say to do works, in order, in a copy of the repository.

A fence `sh` or `python` is run; what stands under a line "`path`:" is written there. `sh` with a
word more is not: an installation, hours of work. Training is cut to little of it.
"""

import ast
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.limits import HANGS

ROOT = Path(__file__).parents[2]
# The quick start leaves what the others use.
PAGES = ("quickstart", "deploying", "your_data", "adding_a_sampler", "adding_a_network")
PAGES += ("adding_a_dataset", "reproducing", "gsdnet", "adding_a_method", "labels")
LITTLE = {
    "configs/quickstart.py": (
        *("classifier_training.epochs=2", "score_training.epochs=2", "stage2_training.epochs=1"),
        *("score.width=16", "score.mlp=16", "score.time_features=8", "decoder.blocks=1"),
        *("latents.channels=8", "fusion.heads=2", "evaluation.draws=2", "diffusion.nfe=3"),
        *("score.layers=1", "decoder.channels=8", "evaluation.rates=(0.5,)"),
        *("data.train=96", "data.valid=32", "data.test=48"),
    ),
}
LITTLE["configs/experiments/samplers.py:smoke"] = (
    *("seeds=(0,)", "score.width=16", "score.mlp=16", "score.time_features=8", "data.train=96"),
    *("data.valid=32", "data.test=48", "classifier_training.epochs=1", "score_training.epochs=1"),
    *("comparison.iterations=50", "score.layers=1", "stage2_training.epochs=1"),
)
LITTLE["configs/gsdnet_synthetic.py"] = (
    *("rounds=1", "data.train=24", "data.valid=6", "data.test=8", "optimise=False"),
    *("classifier_training.epochs=1", "score_training.epochs=1", "stage2_training.epochs=1"),
    *("score.width=16", "score.layers=1", "score.mlp=16", "evaluation.draws=2"),
    *('systems=("gsdnet_mean","bayes")', "evaluation.rates=(0.0,0.5)"),
)
FENCE = re.compile(r"(?:^`([\w/.]+)`:\n\n)?^```(\w+)( \w+)?\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkout")
    without = shutil.ignore_patterns("__pycache__", "results")
    for name in ("mmdjax", "configs", "tests", "benchmarks"):
        shutil.copytree(ROOT / name, folder / name, ignore=without)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def small(command: str) -> str:
    """The command, or the Python, with settings that make it quick."""
    values = dict(change.split("=", 1) for change in LITTLE["configs/quickstart.py"])
    values = {name: ast.literal_eval(value) for name, value in values.items()}
    made = "config = quickstart.get_config()\n"
    command = command.replace(made, f"{made}config.update_from_flattened_dict({values})\n")
    command = command.replace("400, 1, 50", "60, 1, 5")
    for config, changes in LITTLE.items():
        given = f"--config={config} "
        more = " ".join(f"'--config.{change}'" for change in changes)
        command = command.replace(given, f"{given}{more} ")
    with socket.create_server(("127.0.0.1", 0)) as free:
        command = re.sub(r"(?<=[:=])8000\b", str(free.getsockname()[1]), command)
    return command.replace(".venv/bin/python", sys.executable)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_of_the_documentation_works_as_printed(page, checkout):
    text = (ROOT / "docs" / f"{page}.md").read_text()
    found = FENCE.findall(text)
    assert len(found) == text.count("\n```") // 2
    environment = os.environ | {"PYTHONPATH": str(checkout), "JAX_PLATFORMS": "cpu"}
    environment["PYTEST_ADDOPTS"] = "-n 0"
    for path, language, more, block in found:
        if path:
            (checkout / path).write_text(block)
            continue
        if more:
            continue
        program = [sys.executable, "-"] if language == "python" else ["bash", "-euo", "pipefail"]
        done = subprocess.run(
            program,
            input=small(block),
            cwd=checkout,
            env=environment,
            capture_output=True,
            text=True,
            timeout=HANGS,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


def test_the_notebook_works_and_has_its_output(checkout):
    """It takes the model that the quick start leaves."""
    path = ROOT / "docs" / "missing_modalities.ipynb"
    cells = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
    code = "\n".join("".join(cell["source"]) for cell in cells)
    assert all(cell["execution_count"] and cell["outputs"] for cell in cells)
    assert path.stat().st_size < 150_000
    environment = os.environ | {"PYTHONPATH": str(checkout), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-"],
        input=code,
        cwd=checkout,
        env=environment | {"MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
        timeout=HANGS,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_every_page_is_linked_from_the_readme_or_from_a_page_that_is():
    linked, reached = {"README.md"}, set()
    while linked - reached:
        page = (linked - reached).pop()
        reached.add(page)
        folder = (ROOT / page).parent
        for target in re.findall(r"\]\(([\w/.-]+\.md)\)", (ROOT / page).read_text()):
            linked.add(str((folder / target).resolve().relative_to(ROOT)))
    assert {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")} <= reached
