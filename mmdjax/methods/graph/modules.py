"""The parts of GSDNet, joined: the modules of a variant, and the completion of a set.

Shou et al. (2025), "GSDNet: Revisiting Incomplete Multimodal-Diffusion from Graph Spectrum
Perspective for Conversation Emotion Recognition".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmdjax.diffusion import sde as sdes
from mmdjax.methods.graph import states
from mmdjax.methods.graph.diffusion import GraphModules, shown
from mmdjax.methods.graph.states import Graphs, GraphState, shortened
from mmdjax.methods.graph.variants import VARIANTS
from mmdjax.networks.edge_network import EdgeNetwork
from mmdjax.networks.gcn import GCN
from mmdjax.networks.graph_transformer import GraphTransformer
from mmdjax.networks.refine import Refine
from mmdjax.types import Params


class Prepared(NamedTuple):
    """G conversations of at most N utterances, standardised.

    Attributes:
      x: (G, N, M, D) principal components. features: M arrays (G, N, C_m).
      present: (G, N, M) bool, False where an utterance lacks the modality; padding lacks nothing.
      label: (G, N, ...), NaN where there is none. position, speaker: (G, N).
      graphs: what is known of them without features.
    """

    x: jax.Array
    features: tuple[jax.Array, ...]
    present: jax.Array
    label: jax.Array
    position: jax.Array
    speaker: jax.Array
    graphs: Graphs

    def at(self, rows: jax.Array | np.ndarray, count: int) -> Prepared:
        """Return some conversations, cut to `count` utterances; none of them may have more."""
        columns, graphs = self[:-1], jax.tree.map(lambda a: a[rows], self.graphs)
        cut = jax.tree.map(lambda a: a[rows][:, :count], columns)
        return Prepared(*cut, shortened(graphs, count))


class Predictor(NamedTuple):
    """gcn: predicts. features, graph: D_X and D_Lambda. state: of the graphs."""

    gcn: GCN
    features: Refine
    graph: Refine
    state: GraphState


class Completed(NamedTuple):
    """What a `Predictor` makes of drawn sets.

    Attributes:
      output: (B, N, outputs), of the head of the task.
      x: (B, N, M, D), graphs: (B, N, S), corrected by D_X and D_Lambda.
    """

    output: jax.Array
    x: jax.Array
    graphs: jax.Array


def build(config: Any, modalities: int, outputs: int) -> tuple[GraphModules, Predictor]:
    """Return the networks of `config.graph.variant`; everything below takes plain numbers.

    Args:
      config: `mmdjax.config.Config`. modalities: M. outputs: of the task.
    """
    graph, score = config.graph, config.score
    variant = VARIANTS[graph.variant]
    state, width = states.REGISTRY[variant.state], modalities * graph.components
    time = {"time_features": score.time_features, "fourier_scale": score.fourier_scale}
    sizes = {"layers": score.layers, "heads": score.heads, **time}
    features = GraphTransformer(width, variant.sees, width=score.width, mlp=score.mlp, **sizes)
    network: GraphTransformer | EdgeNetwork | None = None
    if variant.drawn and variant.state == "spectral":
        thin = graph.spectrum_width
        network = GraphTransformer(modalities, "all", width=thin, mlp=2 * thin, **sizes)
    elif variant.drawn:
        network = EdgeNetwork(modalities, graph.edge_width, score.layers, **time)
    predictor = Predictor(
        gcn=GCN(outputs, graph.gcn_width, graph.gcn_layers, graph.kernel, graph.dropout),
        features=Refine(width, graph.refine_width),
        graph=Refine(modalities, graph.refine_width),
        state=state,
    )
    sde = sdes.REGISTRY[config.diffusion.sde]()
    return GraphModules(features, network, state, sde, graph.law == "joint"), predictor


def completed(
    predictor: Predictor,
    params: Params,
    batch: Prepared,
    observed: jax.Array,
    x: jax.Array,
    graphs: jax.Array,
    scale: jax.Array | float,
    back: Sequence[jax.Array],
    **dropout: Any,
) -> Completed:
    """Correct what was drawn, put it beside what is observed, and predict.

    Args:
      params: {'gcn'}, and {'features', 'graph'} where drawn values are to be corrected.
      batch: B conversations, of which only observed entries are read.
      observed: (B, N, M). x: (B, N, M, D), graphs: (B, N, S) drawn where not observed.
      scale: one unit of the graphs' state. back: M arrays (D, C_m), see `data/components.py`.
      dropout: see `networks/gcn.py`.
    """
    state = predictor.state
    given = shown(state, batch.graphs, batch.x, observed, scale)
    if "features" in params:  # eq. 17
        flat = x.reshape(*x.shape[:2], -1)
        flat = predictor.features.apply(params["features"], flat, given.observed.astype(x.dtype))
        x = jnp.where(given.drawn[..., None], flat.reshape(x.shape), given.x)
        tokens = state.tokens(batch.graphs, graphs, given.partial, given.observed)
        drawn = graphs.reshape(*tokens.shape[:-1], -1)
        drawn = predictor.graph.apply(params["graph"], drawn, tokens).reshape(graphs.shape)
        graphs = jnp.where(state.entries(batch.graphs, given.kept), drawn, given.partial)
    # Classifiers read the features themselves where they are observed: components lose some.
    features = tuple(
        jnp.where(given.observed[:, :, m, None], as_given, x[:, :, m] @ back[m])
        for m, as_given in enumerate(batch.features)
    )
    adjacency = state.origin(batch.graphs)[:, None] + scale * state.matrices(batch.graphs, graphs)
    output = predictor.gcn.apply(
        params["gcn"], features, adjacency, batch.position, batch.graphs.valid, **dropout
    )
    return Completed(output, x, graphs)
