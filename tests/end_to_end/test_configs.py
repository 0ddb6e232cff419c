"""Every config file loads, passes the checks and says how to run it; benchmarks run."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmdjax import config as configs

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "configs").glob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_a_config_file_is_valid_and_documents_itself(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    configs.from_dict(module.get_config().to_dict())
    if path.stem != "base":
        for word in ("Command: python -m mmdjax.main", "Time:", "Expect:"):
            assert word in module.__doc__


def test_the_latency_benchmark_writes_its_table_and_figure(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.draw_latency", "--smoke", f"--workdir={tmp_path}"],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "draw_latency.json").read_text())
    assert {r["nfe"] for r in result["rows"]} == {2, 4} and result["machine"]["jax"]
    assert (tmp_path / "draw_latency.png").stat().st_size > 0
    assert "| ddim |" in (tmp_path / "draw_latency.md").read_text()
