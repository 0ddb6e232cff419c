"""Graph convolution: permutations, padding, one utterance, and that each modality has its graph."""

import jax
import numpy as np
import pytest

from mmdjax.graphs.conversation import by_likeness, normalised, structure
from mmdjax.networks.embeddings import sinusoidal_positions, sinusoids
from mmdjax.networks.gcn import GCN

B, N, CHANNELS = 2, 6, (4, 3)
MODULE = GCN(outputs=2, width=8)


def inputs(rng, n=N):
    x = tuple(rng.standard_normal((B, n, c)).astype(np.float32) for c in CHANNELS)
    position = np.tile(np.arange(n, dtype=np.float32), (B, 1))
    valid = np.ones((B, n), bool)
    graphs = [
        [
            normalised(
                by_likeness(structure(position[b], np.arange(n) % 2, valid[b]), a[b], valid[b])
            )
            for a in x
        ]
        for b in range(B)
    ]
    return x, np.array(graphs, np.float32), position, valid


@pytest.fixture(scope="module")
def params():
    return MODULE.init(jax.random.key(0), *inputs(np.random.default_rng(0)))


def test_permuting_utterances_permutes_the_result(params, rng):
    x, adjacency, position, valid = inputs(rng)
    order = rng.permutation(N)
    turned = MODULE.apply(
        params,
        tuple(a[:, order] for a in x),
        adjacency[..., order, :][..., order],
        position[:, order],
        valid,
    )
    straight = MODULE.apply(params, x, adjacency, position, valid)
    np.testing.assert_allclose(turned, straight[:, order], atol=1e-5)


def test_padding_changes_nothing_and_may_hold_nan(params, rng):
    x, adjacency, position, valid = inputs(rng)
    rows = [(0, 0), (0, 3)]
    long = MODULE.apply(
        params,
        tuple(np.pad(a, [*rows, (0, 0)], constant_values=np.nan) for a in x),
        np.pad(adjacency, [(0, 0), *rows, (0, 3)]),
        np.pad(position, rows, constant_values=np.nan),
        np.pad(valid, rows),
    )
    np.testing.assert_allclose(
        long[:, :N], MODULE.apply(params, x, adjacency, position, valid), atol=1e-5
    )
    np.testing.assert_array_equal(long[:, N:], 0)


def test_each_modality_is_convolved_on_its_own_graph(params, rng):
    x, adjacency, position, valid = inputs(rng)
    for m in range(len(CHANNELS)):
        other = adjacency.copy()
        other[:, m] = np.eye(N)
        moved = MODULE.apply(params, x, other, position, valid)
        assert np.abs(moved - MODULE.apply(params, x, adjacency, position, valid)).max() > 1e-3


def test_an_utterance_reaches_as_far_as_the_graph_and_no_further(params, rng):
    """Two layers and a window of two: four utterances away, not five."""
    x, adjacency, position, valid = inputs(rng)

    def last(first):
        moved = first, *x[1:]
        return MODULE.apply(params, moved, adjacency, position, valid)[0, -1].sum()

    influence = np.abs(jax.grad(last)(x[0])[0]).max(-1)
    assert influence[0] == 0 and influence[1:].min() > 0


def test_one_utterance_works_and_positions_are_the_usual_ones(params, rng):
    alone = MODULE.apply(params, *inputs(rng, n=1))
    assert alone.shape == (B, 1, 2) and np.isfinite(alone).all()
    np.testing.assert_allclose(
        sinusoids(np.arange(5.0)[None], 8)[0], sinusoidal_positions(5, 8), atol=1e-6
    )
