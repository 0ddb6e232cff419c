"""GSDNet's section of a report: the graphs under noise (the paper's Figure 1), and their spectra.

Noise is added to a graph's matrix, or to its spectrum.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy.stats import wasserstein_distance

from mmdjax.diffusion.sde import SDE
from mmdjax.evaluation.figures import INK, QUIET, blank, tidy
from mmdjax.evaluation.pages import Block
from mmdjax.evaluation.tables import Table
from mmdjax.graphs.conversation import BASES
from mmdjax.graphs.spectral import kept
from mmdjax.methods.graph import states as graph_states
from mmdjax.methods.graph.programs import compiled_graphs
from mmdjax.methods.graph.states import Graphs, adjacencies

if TYPE_CHECKING:
    from mmdjax.methods.gsdnet import GraphMethod

PICTURED = 32  # conversations whose graphs are diffused for the picture
SMALLEST = 3  # utterances of a conversation whose graph has something to tell
SHOWN = (0.0, 0.05, 0.1, 0.2, 0.4)  # times of the matrices
TIMES = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)  # of the curves
EITHER = tuple(sorted({*SHOWN, *TIMES}))
KINDS = {  # kind of state -> its name and hue
    "spectral": ("the spectrum (GSDNet)", "#0b5cad"),
    "dense": ("the matrix (GDSS)", "#c44e00"),
}
MEASURES = ("true edges among the strongest", "distance of eigenvalues", "distance of degrees")


def sections(
    method: GraphMethod, params: Mapping[str, Any], seed: int
) -> tuple[list[tuple[str, list[Block]]], dict[str, tuple[Figure, str]]]:
    """Return sections of the report, and their figures by name.

    Args:
      method: `methods.gsdnet.GSDNet`.
      params, seed: of a trained run, as every method's pages are given; not read here.
    """
    grouped = method.system.grouped
    rows = np.flatnonzero(grouped.known("train")[:, 0])[:PICTURED]
    if grouped.exists["train"][rows].sum(1).max(initial=0) < SMALLEST:
        return [], {}
    train = grouped.of_split["train"][rows]
    graphs = jax.tree.map(lambda a: a[train], grouped.data.graphs)
    x, sde = grouped.data.x[train], method.system.modules.sde
    diffused = {kind: np.asarray(_diffused(kind, graphs, x, 0, sde)) for kind in KINDS}
    caption = (
        f"Graph of {method.modalities[0]} while it is diffused, one conversation; below, means "
        f"over {PICTURED} training conversations. Either state is diffused at unit variance: "
        "the matrix, or the eigenvalues' deviations from those of the known structure. Degrees "
        "by Wasserstein distance."
    )
    table = ("table", "How much of a graph its spectrum keeps, by basis", *_kept_table(method))
    blocks = [table, ("figure", "graph_noise", caption)]
    figure = picture(diffused, np.asarray(graphs.valid))
    return [("Graphs", blocks)], {"graph_noise": (figure, caption)}


@functools.partial(jax.jit, static_argnames=("kind", "modality", "sde"))
def _diffused(kind: str, graphs: Graphs, x: np.ndarray, modality: int, sde: SDE) -> jax.Array:
    """Return one modality's graphs at each of `EITHER`, (B, T, N, N), with one noise for all times.

    Args:
      kind: of state, which is diffused at unit variance.
      x: features of complete conversations, (B, N, M, D).
    """
    state = graph_states.REGISTRY[kind]
    everything = jnp.broadcast_to(graphs.valid[..., None], x.shape[:3])
    start = state.of(graphs, x, everything)
    entries = state.entries(graphs, jnp.zeros_like(everything[:, 0]))
    unit = jnp.sqrt(jnp.where(entries, start**2, 0.0).sum() / jnp.maximum(entries.sum(), 1))
    noise = jnp.where(entries, jax.random.normal(jax.random.key(0), start.shape), 0.0)
    origin = state.origin(graphs)

    def at(t: jax.Array) -> jax.Array:
        alpha, std = sde.marginal(jnp.maximum(t, sde.t_min))
        noisy = jnp.where(t > 0, alpha * start / unit + std * noise, start / unit)
        return origin + unit * state.matrices(graphs, noisy)[:, modality]

    return jnp.moveaxis(jax.lax.map(at, jnp.asarray(EITHER, jnp.float32)), 0, 1)


def _curves(diffused: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Return (measures, times `TIMES`), means over conversations."""
    times = [EITHER.index(t) for t in TIMES]
    curves = []
    for matrices, n in zip(diffused[:, times], valid.sum(1), strict=True):
        if n >= SMALLEST:
            curves.append([_measures(a[:n, :n], matrices[0][:n, :n]) for a in matrices])
    return np.mean(curves, axis=0).T


def _measures(a: np.ndarray, true: np.ndarray) -> tuple[float, float, float]:
    upper = np.triu_indices(len(a), 1)
    edges = true[upper] > 1e-6
    strongest = np.argsort(-a[upper], kind="stable")[: edges.sum()]
    distance = np.sqrt(np.mean((np.linalg.eigvalsh(a) - np.linalg.eigvalsh(true)) ** 2))
    return edges[strongest].mean(), distance, wasserstein_distance(a.sum(1), true.sum(1))


def picture(diffused: Mapping[str, np.ndarray], valid: np.ndarray) -> Figure:
    """Return matrices of the longest conversation over time, and three measures over all.

    Args:
      diffused: kind of state -> (B, T, N, N) at the times `EITHER`.
      valid: (B, N) bool.
    """
    figure = blank(11, 7.2)
    rows = figure.subfigures(2, 1, height_ratios=(1.5, 1))
    grid = rows[0].subplots(len(KINDS), len(SHOWN), squeeze=False)
    longest, times = int(np.argmax(valid.sum(1))), [EITHER.index(t) for t in SHOWN]
    limit = max(float(np.abs(matrices[longest, times[0]]).max()) for matrices in diffused.values())
    for axes, kind in zip(grid, KINDS, strict=True):
        for ax, t, a in zip(axes, SHOWN, diffused[kind][longest, times], strict=True):
            ax.imshow(a, cmap="RdBu_r", vmin=-limit, vmax=limit)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
            ax.set_title(f"t = {t:g}", fontsize=9, color=QUIET)
        axes[0].set_ylabel(f"noise on\n{KINDS[kind][0]}", fontsize=10, color=INK)
    curves = {kind: _curves(matrices, valid) for kind, matrices in diffused.items()}
    for i, (ax, measure) in enumerate(zip(rows[1].subplots(1, 3), MEASURES, strict=True)):
        tidy(ax, measure)
        ax.title.set_fontsize(9.5)
        for kind, (name, hue) in KINDS.items():
            ax.plot(TIMES, curves[kind][i], color=hue, lw=2, label=name)
        ax.set_xlabel("t", fontsize=9, color=QUIET)
        if i:
            ax.set_yscale("symlog", linthresh=0.1)
    ax.legend(frameon=False, fontsize=9)
    return figure


def _kept_table(method: GraphMethod) -> Table:
    """Return shares of the squared Frobenius norm in each basis, means over the conversations of
    the test split whose graph is known."""
    grouped = method.system.grouped
    data, test, known = grouped.data, grouped.of_split["test"], grouped.known("test")
    graphs = jax.tree.map(lambda a: a[test], data.graphs)
    everything = jnp.broadcast_to(graphs.valid[..., None], data.x[test].shape[:3])
    matrices = jax.jit(adjacencies)(graphs, data.x[test], everything)
    places, shares = (data.position[test], data.speaker[test], graphs.valid), []
    for name in BASES:
        edges = tuple(method.config.graph.edges().items())
        basis = compiled_graphs(name, edges)(*places).basis
        shares.append(np.asarray(_shares(matrices, basis)))
    body = [
        [modality, *(f"{100 * share[known[:, m], m].mean():.1f}" for share in shares)]
        for m, modality in enumerate(method.modalities)
        if known[:, m].any()
    ]
    return ["modality", *(f"{name} (%)" for name in BASES)], body


_shares = jax.jit(jax.vmap(jax.vmap(kept, (0, None))))
