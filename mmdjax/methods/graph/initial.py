"""Initial parameters of GSDNet's networks; equal modules share their programs."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from mmdjax.methods.graph.diffusion import Shown, graph_tokens, shown
from mmdjax.methods.graph.modules import Prepared
from mmdjax.methods.graph.system import System
from mmdjax.methods.latent.initial import initial


def initial_score(system: System, key: jax.Array) -> dict:
    """Return {'features', and 'graph' where the variant draws graphs}."""
    keys, modules = jax.random.split(key), system.modules
    batch, given, tokens = _zeros(system, drawing=True)
    size, n, modalities = given.observed.shape
    t, graphs = np.ones(1, np.float32), batch.graphs
    inputs = np.zeros((size, n, 2 * batch.x[0, 0].size + modalities), np.float32)
    edges = np.zeros((size, modalities, n, n), np.float32) if modules.graph else None
    features = initial(modules.features)(keys[0], inputs, t, graphs.valid, graphs.weights, edges)
    if modules.graph is None:
        return {"features": features}
    graph = initial(modules.graph)(keys[1], tokens, t, modules.state.seen(graphs))
    return {"features": features, "graph": graph}


def initial_gcn(system: System, key: jax.Array) -> dict:
    """Return {'gcn'}."""
    batch, given, _ = _zeros(system)
    size, n, modalities = given.observed.shape
    adjacency = np.zeros((size, modalities, n, n), np.float32)
    init = initial(system.predictor.gcn)
    return {"gcn": init(key, batch.features, adjacency, batch.position, batch.graphs.valid)}


def initial_refine(system: System, key: jax.Array) -> dict:
    """Return {'features', 'graph'}: D_X and D_Lambda, which change nothing at first."""
    keys, predictor = jax.random.split(key), system.predictor
    batch, given, tokens = _zeros(system)
    flat = batch.x.reshape(*given.observed.shape[:2], -1)
    drawn = given.partial.reshape(*tokens.shape[:-1], -1)
    return {
        "features": initial(predictor.features)(keys[0], flat, given.observed.astype(np.float32)),
        "graph": initial(predictor.graph)(keys[1], drawn, tokens),
    }


def _zeros(system: System, drawing: bool = False) -> tuple[Prepared, Shown, np.ndarray]:
    """One conversation, what is shown of it, and tokens of its graphs (`drawing`: those of the
    network that draws them): 0, for their shapes."""
    modules, state = system.modules, system.modules.state

    def of(data):
        batch = data.at(np.zeros(1, np.int32), system.grouped.lengths[0])
        observed = jnp.ones(batch.x.shape[:3], bool)
        given = shown(state, batch.graphs, batch.x, observed, 1.0)
        if drawing:
            tokens = graph_tokens(modules, batch.graphs, given, given.x, given.partial)
        else:
            tokens = state.tokens(batch.graphs, given.partial, given.partial, observed)
        return batch, given, tokens

    shapes = jax.eval_shape(of, system.grouped.data)
    return jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), shapes)
