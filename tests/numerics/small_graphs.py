"""Small conversations and networks that tests of graph diffusion share."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdjax.diffusion import sde as sdes
from mmdjax.methods.graph import states as graph_states
from mmdjax.methods.graph.diffusion import (
    GraphModules,
    graph_tokens,
    shown,
)
from mmdjax.methods.graph.states import known_graphs
from mmdjax.networks.edge_network import EdgeNetwork
from mmdjax.networks.graph_transformer import GraphTransformer

VP = sdes.REGISTRY["vp"]()
SCALE = 0.1
M, D = 3, 2


def conversations(rng, batch=2, n=5):
    position = np.tile(np.arange(n, dtype=np.float32), (batch, 1))
    speaker, valid = rng.integers(0, 2, (batch, n)), np.ones((batch, n), bool)
    x = rng.standard_normal((batch, n, M, D)).astype(np.float32)
    observed = rng.random((batch, n, M)) < 0.6
    observed[..., 0] |= ~observed.any(-1)
    observed[0, :, 1] = True
    return position, speaker, valid, x, observed


def networks(rng, kind, n, joint=True):
    """Modules of a kind of state with random parameters, nothing hidden by zero gates."""
    sizes = {"layers": 1, "time_features": 8}
    more = {"width": 16, "heads": 2, "mlp": 32}
    of_graph = {
        "spectral": GraphTransformer(M, "all", **sizes, **more),
        "dense": EdgeNetwork(M, 8, **sizes),
    }[kind]
    state = graph_states.REGISTRY[kind]
    modules = GraphModules(GraphTransformer(M * D, **sizes, **more), of_graph, state, VP, joint)
    known = known_graphs(np.zeros((1, n)), np.zeros((1, n), int), np.ones((1, n), bool))
    given = shown(state, known, np.zeros((1, n, M, D)), np.ones((1, n, M), bool), SCALE)
    t, edges = jnp.zeros(1), jnp.zeros((1, M, n, n))
    about = (jnp.zeros((1, n, 2 * M * D + M)), t, known.valid, known.weights, edges)
    tokens = graph_tokens(modules, known, given, given.x, given.partial)
    params = {
        "features": modules.features.init(jax.random.key(0), *about),
        "graph": of_graph.init(jax.random.key(1), tokens, t, state.seen(known)),
    }
    filled = jax.tree.map(lambda a: 0.3 * rng.standard_normal(a.shape).astype(np.float32), params)
    return modules, filled


KINDS = pytest.mark.parametrize("kind", tuple(graph_states.REGISTRY))
