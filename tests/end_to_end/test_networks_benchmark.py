"""The table of the four score networks: exact counts at their sizes, and a run of the command."""

import jax
import numpy as np
import pytest

from benchmarks import networks
from benchmarks.common import draw_operations
from mmdjax.networks.score_networks import PUBLISHED, REGISTRY
from tests.end_to_end.benchmark import smoke


@pytest.mark.parametrize("name", REGISTRY)
def test_parameters_are_counted_at_the_published_size(name):
    x, seen = np.zeros((1, 48, 32), np.float32), np.ones((1, 48), bool)
    given = (x, np.ones(1, np.float32), np.stack([x, x], 1), np.array([1, 2]))
    masks = (seen, np.stack([seen, seen], 1))
    init = REGISTRY[name](3, 48, 32, **PUBLISHED[name]).init
    leaves = jax.tree.leaves(jax.eval_shape(init, jax.random.key(0), *given, *masks))
    counted = sum(int(np.prod(leaf.shape)) for leaf in leaves)
    assert networks.parameters(networks.systems()[name].score) == counted


def test_operations_hold_every_layer():
    """Of a loop over layers XLA counts one; here all are."""
    sizes = PUBLISHED["score_transformer"] | {"channels": 32, "attention": "joint", "patch": 1}
    counted = networks.operations(networks.systems()["score_transformer"].score)
    assert 1 < counted / draw_operations(sizes, 1) < 1.1


@pytest.mark.benchmark
def test_the_command_writes_its_table_and_figure(tmp_path):
    result = smoke("networks", tmp_path)
    assert {r["network"] for r in result["rows"]} == set(REGISTRY) and result["machine"]["jax"]
    for row in result["rows"]:
        times = ["step", *(f"{part}_{b}" for part in networks.PARTS for b in networks.BATCHES)]
        for time in (row[name] for name in times):
            low, high = time["quartiles"]
            assert 0 < low <= time["seconds"] <= high
        numbers = ("parameters", "operations", "hours", "memory_1", "memory_32")
        assert all(row[name] > 0 for name in numbers)
        assert row["memory_1"] > 4 * row["parameters"] and row["printed"]["inference_ms"] > 0
