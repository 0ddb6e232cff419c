"""The table of time and memory against conversation length: a run of the command."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import graph_scaling

ROOT = Path(__file__).parents[2]


def test_an_exponent_is_the_slope_from_long_conversations_on():
    rows = [
        {"kind": kind, "utterances": n, "seconds": 3.0 * max(n, 64) ** 2}
        for kind in graph_scaling.HUES
        for n in graph_scaling.LENGTHS
    ]
    assert graph_scaling.exponents(rows, "seconds")["dense"] == pytest.approx(2)


def test_the_command_writes_its_table_and_figure(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.graph_scaling", "--smoke", f"--workdir={tmp_path}"],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "graph_scaling.json").read_text())
    assert {r["kind"] for r in result["rows"]} == set(graph_scaling.HUES)
    for row in result["rows"]:
        low, high = row["quartiles"]
        assert 0 < low <= row["seconds"] <= high and row["bytes"] > 0
    held = {(r["kind"], r["utterances"]): r["bytes"] for r in result["rows"]}
    assert held["dense", 32] > held["spectral", 32] > held["none", 32]
    assert str(tmp_path) not in (tmp_path / "graph_scaling.md").read_text()
    assert (tmp_path / "graph_scaling.png").stat().st_size > 0
