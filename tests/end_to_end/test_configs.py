"""Every config file loads, passes the checks and says how to run it; the operations of a draw."""

import importlib.util
from pathlib import Path

import pytest

from mmdjax import config as configs
from mmdjax.config.resolve import systems_of
from mmdjax.evaluation import published

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
    config = configs.from_dict(load(path).get_config().to_dict())
    systems = systems_of(config)
    assert systems[0].method.name == config.method and systems[0].config.systems == ()
    assert len({system.name for system in systems}) == len(systems)


@pytest.mark.parametrize("size", ["smoke", "real"])
@pytest.mark.parametrize("path", TABLES, ids=lambda p: p.stem)
def test_a_comparison_is_valid_and_names_published_systems(path, size):
    """Every system's own config passes the checks, and every published name is in the tables."""
    config = configs.from_dict(load(path).get_config(size).to_dict())
    named = [system.name for system in config.comparison.systems]
    systems = systems_of(config)
    assert [system.name for system in systems][: len(named)] == named and len(named) > 2
    assert all(system.method.yardstick for system in systems[len(named) :])
    comparison = config.comparison
    printed = {r["method"] for t in comparison.tables
               for r in published.results(t, comparison.dataset)}  # fmt: skip
    named = {s.published for s in config.comparison.systems} - {""}
    assert named <= printed and bool(named) == bool(printed)


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
