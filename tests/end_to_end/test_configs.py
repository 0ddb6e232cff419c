"""Every config file loads, passes the checks and says how to run it; benchmarks run."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmdjax import config as configs
from mmdjax.comparison import configs_of
from mmdjax.evaluation.comparison_tables import printed_rows

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "configs").glob("*.py"))
TABLES = sorted(p for p in (ROOT / "configs/experiments").glob("*.py") if p.stem != "base")


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if path.stem != "base":
        for word in ("Command: python -m mmdjax.main", "Time: ", "Expect: "):
            assert word in module.__doc__
    return module


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_a_config_file_is_valid_and_documents_itself(path):
    configs.from_dict(load(path).get_config().to_dict())


@pytest.mark.parametrize("size", ["smoke", "real"])
@pytest.mark.parametrize("path", TABLES, ids=lambda p: p.stem)
def test_a_comparison_is_valid_and_names_published_systems(path, size):
    """Every system's own config passes the checks, and every published name is in the tables."""
    config = configs.from_dict(load(path).get_config(size).to_dict())
    systems = configs_of(config)
    assert len(systems) == len(config.comparison.systems) > 2
    printed = {method for method, _, _ in printed_rows(config.comparison)}
    named = {s.published for s in config.comparison.systems} - {""}
    assert named <= printed and bool(named) == bool(printed)


SMALL = {
    "score.width": 16,
    "score.mlp": 16,
    "score.time_features": 8,
    "fusion.heads": 2,
    "data.train": 96,
    "data.valid": 32,
    "data.test": 48,
    "classifier_training.epochs": 1,
    "score_training.epochs": 1,
}


def test_the_latency_study_writes_its_table_and_figure(tmp_path):
    changes = [f"--config.{name}={value}" for name, value in SMALL.items()]
    command = [sys.executable, "-m", "benchmarks.nfe_latency", "--config=configs/synthetic.py"]
    done = subprocess.run(
        [*command, "--smoke", *changes, f"--workdir={tmp_path}"],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "nfe_latency.json").read_text())
    assert {(r["sampler"], r["nfe"]) for r in result["rows"]} == {
        (sampler, nfe) for sampler in ("ddim", "dpmpp_2m") for nfe in (2, 4)
    }
    assert {r["batch"] for r in result["latency"]} == {1, 32, 128}
    assert result["recipes"]["fast-4"]["seconds_32"] > 0 and result["machine"]["jax"]
    assert str(tmp_path) not in (tmp_path / "nfe_latency.md").read_text()
    assert (tmp_path / "nfe_latency.png").stat().st_size > 0


@pytest.mark.parametrize("attention", ["joint", "prefix"])
@pytest.mark.parametrize("patch", [1, 4])
def test_operations_of_a_draw_are_those_of_the_compiled_program(attention, patch):
    """Against XLA's own count of the products, of one evaluation and of the encoding."""
    import jax
    import numpy as np

    from benchmarks.common import draw_operations
    from mmdjax.networks.score_transformer import ScoreTransformer1D

    sizes = {"width": 128, "layers": 2, "mlp": 256, "channels": 32}
    sizes |= {"attention": attention, "patch": patch}
    net = ScoreTransformer1D(3, heads=4, time_features=2, **sizes)
    x, t = np.zeros((4, 48, 32), np.float32), np.ones(4, np.float32)
    given = (np.zeros((4, 2, 48, 32), np.float32), np.array([1, 2]))
    mask, shown = np.ones((4, 48), bool), np.ones((4, 2, 48), bool)
    params = jax.eval_shape(net.init, jax.random.key(0), x, t, *given, mask, shown)
    program = jax.jit(net.apply).lower(params, x, t, *given, mask, shown).compile()
    counted = program.cost_analysis()["flops"] / 4
    # XLA counts norms, softmax and activations too.
    assert 1 < counted / draw_operations(sizes, 1) < 1.2
