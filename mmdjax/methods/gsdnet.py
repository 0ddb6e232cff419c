"""The parts of GSDNet, joined: modules of each variant, and the completion of a set.

Shou et al. (2025), "GSDNet: Revisiting Incomplete Multimodal-Diffusion from Graph Spectrum
Perspective for Conversation Emotion Recognition". Its variants differ in what of the graphs is
diffused, and in what the network of the features sees:

    spectral         GSDNet: eigenvalues in the basis of the known structure
    dense            the adjacency matrices themselves (GDSS), the paper's ablation: features pass
                     messages on nothing but the noisy matrices
    dense_structure  the same, and features see the known structure too
    structure        no graph is drawn; features see the known structure
    blind            no graph is drawn; each utterance sees itself alone
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from mmdjax.diffusion import sde as sdes
from mmdjax.methods.graph import states as graph_states
from mmdjax.methods.graph.diffusion import GraphModules, hidden, shown
from mmdjax.methods.graph.states import Graphs, GraphState, shortened
from mmdjax.networks.edge_network import EdgeNetwork
from mmdjax.networks.gcn import GCN
from mmdjax.networks.graph_transformer import GraphTransformer
from mmdjax.networks.refine import Refine


class Variant(NamedTuple):
    """state: of `graph_states.REGISTRY`. drawn: whether it is. sees: of `GraphTransformer`."""

    state: str
    drawn: bool
    sees: str


VARIANTS = {
    "spectral": Variant("spectral", True, "graph"),
    "dense": Variant("dense", True, "all"),
    "dense_structure": Variant("dense", True, "graph"),
    "structure": Variant("spectral", False, "graph"),
    "blind": Variant("spectral", False, "alone"),
}


class Prepared(NamedTuple):
    """G conversations of at most N utterances, standardised.

    Attributes:
      x: (G, N, M, D) principal components. features: M arrays (G, N, C_m).
      label, position, speaker: (G, N). graphs: what is known of them without features.
    """

    x: jax.Array
    features: tuple[jax.Array, ...]
    label: jax.Array
    position: jax.Array
    speaker: jax.Array
    graphs: Graphs

    def at(self, rows, count: int) -> Prepared:
        """Some conversations, cut to `count` utterances; none may have more."""
        rest, graphs = self[:-1], jax.tree.map(lambda a: a[rows], self.graphs)
        return Prepared(*jax.tree.map(lambda a: a[rows][:, :count], rest), shortened(graphs, count))


class Predictor(NamedTuple):
    """gcn: predicts. features, graph: D_X and D_Lambda. state: of the graphs."""

    gcn: GCN
    features: Refine
    graph: Refine
    state: GraphState


class Completed(NamedTuple):
    """What a `Predictor` makes of drawn sets.

    Attributes:
      prediction: (B, N, outputs). x: (B, N, M, D), graphs: (B, N, S), corrected by D_X, D_Lambda.
    """

    prediction: jax.Array
    x: jax.Array
    graphs: jax.Array


def build(config, modalities: int) -> tuple[dict[str, GraphModules], dict[str, Predictor]]:
    """By variant; everything below takes plain numbers."""
    graph, score = config.graph, config.score
    time = {"time_features": score.time_features, "fourier_scale": score.fourier_scale}
    sizes = {"layers": score.layers, "heads": score.heads, **time}
    sde, diffusers, predictors = sdes.REGISTRY[config.diffusion.sde](), {}, {}
    width, thin = graph.components, graph.spectrum_width
    networks = {
        "spectral": GraphTransformer(modalities, "all", width=thin, mlp=2 * thin, **sizes),
        "dense": EdgeNetwork(modalities, graph.edge_width, score.layers, **time),
    }
    gcn = GCN(
        max(1, config.data.classes), graph.gcn_width, graph.gcn_layers, graph.kernel, graph.dropout
    )
    refine = Refine(modalities * width, graph.refine_width)
    refine_graph = Refine(modalities, graph.refine_width)
    for name in graph.variants:
        about = VARIANTS[name]
        state = graph_states.REGISTRY[about.state]
        features = GraphTransformer(
            modalities * width, about.sees, width=score.width, mlp=score.mlp, **sizes
        )
        network = networks[about.state] if about.drawn else None
        diffusers[name] = GraphModules(features, network, state, sde)
        predictors[name] = Predictor(gcn, refine, refine_graph, state)
    return diffusers, predictors


def completed(
    predictor: Predictor, params, given: Prepared, observed, x, graphs, scale, back, **dropout
) -> Completed:
    """Corrects what was drawn, puts it beside what is observed, and predicts.

    Args:
      params: {'gcn'}, and {'features', 'graph'} where drawn values are to be corrected.
      observed: (B, N, M). x: (B, N, M, D), graphs: (B, N, S) drawn where not observed.
      back: M arrays (D, C_m), see `data/components.py`. dropout: see `networks/gcn.py`.
    """
    state = predictor.state
    known = shown(state, given.graphs, given.x, observed, scale)
    gaps = hidden(given.graphs, known)
    if "features" in params:
        flat = x.reshape(*x.shape[:2], -1)
        flat = predictor.features.apply(params["features"], flat, known.observed.astype(x.dtype))
        x = jnp.where(gaps[..., None], flat.reshape(x.shape), known.x)
        tokens = state.tokens(given.graphs, graphs, known.partial, known.observed)
        drawn = graphs.reshape(*tokens.shape[:-1], -1)
        drawn = predictor.graph.apply(params["graph"], drawn, tokens).reshape(graphs.shape)
        graphs = jnp.where(state.entries(given.graphs, known.whole), drawn, known.partial)
    features = tuple(
        jnp.where(known.observed[:, :, m, None], own, x[:, :, m] @ back[m])
        for m, own in enumerate(given.features)
    )
    adjacency = state.origin(given.graphs)[:, None] + scale * state.matrices(given.graphs, graphs)
    about = (adjacency, given.position, given.graphs.valid)
    return Completed(predictor.gcn.apply(params["gcn"], features, *about, **dropout), x, graphs)
