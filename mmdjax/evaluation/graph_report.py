"""What the report of GSDNet holds beyond that of other methods: its graphs."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from mmdjax.evaluation import tables
from mmdjax.evaluation.graph_noise import noised, picture
from mmdjax.evaluation.pages import Block
from mmdjax.graphs.conversation import BASES
from mmdjax.graphs.spectral import kept
from mmdjax.methods.graph.programs import compiled_graphs
from mmdjax.methods.graph.states import adjacencies

PICTURED = 32  # conversations whose graphs are diffused for the picture
SMALLEST = 3  # utterances of a conversation whose graph has something to tell


def sections(
    method, params, seed: int
) -> tuple[list[tuple[str, list[Block]]], dict[str, tuple[Figure, str]]]:
    """Return sections of the report, and their figures by name.

    Args:
      method: `methods.gsdnet.GSDNet`.
      params, seed: of a trained run, as every method's pages are given; not read here.
    """
    grouped = method.system.grouped
    train = grouped.of_split["train"][:PICTURED]
    if grouped.exists["train"][:PICTURED].sum(1).max() < SMALLEST:
        return [], {}
    graphs = jax.tree.map(lambda a: a[train], grouped.data.graphs)
    noise = noised(graphs, grouped.data.x[train], 0, method.system.modules.sde)
    caption = (
        f"Graph of {method.modalities[0]} while it is diffused, one conversation; below, means "
        f"over {PICTURED} training conversations. Either state is diffused at unit variance: "
        "the matrix, or the eigenvalues' deviations from those of the known structure. Degrees "
        "by Wasserstein distance."
    )
    table = ("table", "How much of a graph its spectrum keeps, by basis", *_kept_table(method))
    blocks = [table, ("figure", "graph_noise", caption)]
    return [("Graphs", blocks)], {"graph_noise": (picture(noise), caption)}


def _kept_table(method) -> tables.Table:
    """Shares of the squared Frobenius norm in each basis, means over the test conversations."""
    data, test = method.system.grouped.data, method.system.grouped.of_split["test"]
    graphs = jax.tree.map(lambda a: a[test], data.graphs)
    everything = jnp.broadcast_to(graphs.valid[..., None], data.x[test].shape[:3])
    matrices = jax.jit(adjacencies)(graphs, data.x[test], everything)
    places, shares = (data.position[test], data.speaker[test], graphs.valid), []
    for name in BASES:
        edges = tuple(method.config.graph.edges().items())
        basis = compiled_graphs(name, edges)(*places).basis
        shares.append(np.asarray(_shares(matrices, basis)))
    body = [
        [modality, *(f"{100 * share[:, m].mean():.1f}" for share in shares)]
        for m, modality in enumerate(method.modalities)
    ]
    return ["modality", *(f"{name} (%)" for name in BASES)], body


_shares = jax.jit(jax.vmap(jax.vmap(kept, (0, None))))
