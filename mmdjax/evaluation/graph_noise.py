"""What either noise does to a graph (the paper's Figure 1): on its matrix, or on its spectrum."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy.stats import wasserstein_distance

from mmdjax.diffusion.sde import SDE
from mmdjax.evaluation.figures import INK, QUIET, blank, tidy
from mmdjax.methods.graph import states as graph_states
from mmdjax.methods.graph.states import Graphs

SHOWN = (0.0, 0.05, 0.1, 0.2, 0.4)
TIMES = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)
HUES = {"spectral": "#0b5cad", "dense": "#c44e00"}
MEASURES = (
    "true edges among the strongest",
    "distance of eigenvalues",
    "distance of degrees",
)


TIMES_ALL = tuple(sorted({*SHOWN, *TIMES}))
NAMES = {"spectral": "the spectrum (GSDNet)", "dense": "the matrix (GDSS)"}


class Noised(NamedTuple):
    """One conversation's matrices (K, T, N, N) of K kinds of noise and T times `SHOWN`; curves:
    kind -> (measures, times `TIMES`), means over conversations."""

    kinds: tuple[str, ...]
    matrices: np.ndarray
    curves: Mapping[str, np.ndarray]


def noised(graphs: Graphs, x, modality: int, sde: SDE, seed: int = 0) -> Noised:
    """Diffuses one modality's graphs, each kind of state at unit variance.

    Args:
      graphs, x: of complete conversations, (B, N, M, D); the longest one is pictured.
    """
    longest = int(np.argmax(np.asarray(graphs.valid).sum(1)))
    matrices, curves = [], {}
    for kind in HUES:
        state = graph_states.REGISTRY[kind]
        diffused = np.asarray(_diffused(state, graphs, x, modality, sde, seed))
        pictured = [diffused[longest, TIMES_ALL.index(t)] for t in SHOWN]
        matrices.append(np.stack(pictured))
        curves[kind] = _curves(diffused, np.asarray(graphs.valid))
    return Noised(tuple(HUES), np.stack(matrices), curves)


@functools.partial(jax.jit, static_argnames=("state", "modality", "sde", "seed"))
def _diffused(state, graphs: Graphs, x, modality: int, sde: SDE, seed: int):
    """(B, T, N, N): the graph at each of `TIMES_ALL`, the same noise at all."""
    everything = jnp.broadcast_to(graphs.valid[..., None], x.shape[:3])
    start = state.of(graphs, x, everything)
    entries = state.entries(graphs, jnp.zeros_like(everything[:, 0]))
    unit = jnp.sqrt(jnp.where(entries, start**2, 0.0).sum() / jnp.maximum(entries.sum(), 1))
    noise = jnp.where(entries, jax.random.normal(jax.random.key(seed), start.shape), 0.0)
    origin = state.origin(graphs)

    def at(t):
        alpha, std = sde.marginal(jnp.maximum(t, sde.t_min))
        noisy = jnp.where(t > 0, alpha * start / unit + std * noise, start / unit)
        return origin + unit * state.matrices(graphs, noisy)[:, modality]

    return jnp.moveaxis(jax.lax.map(at, jnp.asarray(TIMES_ALL, jnp.float32)), 0, 1)


def _curves(diffused: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """(measures, times `TIMES`)."""
    places = [TIMES_ALL.index(t) for t in TIMES]
    found = []
    for matrices, mask in zip(diffused[:, places], valid, strict=True):
        n = int(mask.sum())
        if n > 2:
            found.append([_measures(a[:n, :n], matrices[0][:n, :n]) for a in matrices])
    return np.mean(found, axis=0).T


def _measures(a: np.ndarray, true: np.ndarray) -> tuple[float, float, float]:
    upper = np.triu_indices(len(a), 1)
    edges = true[upper] > 1e-6
    strongest = np.argsort(-a[upper], kind="stable")[: edges.sum()]
    distance = np.sqrt(np.mean((np.linalg.eigvalsh(a) - np.linalg.eigvalsh(true)) ** 2))
    return edges[strongest].mean(), distance, wasserstein_distance(a.sum(1), true.sum(1))


def picture(found: Noised) -> Figure:
    """Matrices of one conversation over time, and three measures over all."""
    figure = blank(11, 7.2)
    rows = figure.subfigures(2, 1, height_ratios=(1.5, 1))
    grid = rows[0].subplots(len(found.kinds), len(SHOWN), squeeze=False)
    limit = float(np.abs(found.matrices[:, 0]).max())
    for axes, kind, matrices in zip(grid, found.kinds, found.matrices, strict=True):
        for ax, t, a in zip(axes, SHOWN, matrices, strict=True):
            ax.imshow(a, cmap="RdBu_r", vmin=-limit, vmax=limit)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
            ax.set_title(f"t = {t:g}", fontsize=9, color=QUIET)
        axes[0].set_ylabel(f"noise on\n{NAMES[kind]}", fontsize=10, color=INK)
    for ax, (i, name) in zip(rows[1].subplots(1, 3), enumerate(MEASURES), strict=True):
        tidy(ax, name)
        ax.title.set_fontsize(9.5)
        for kind, curve in found.curves.items():
            ax.plot(TIMES, curve[i], color=HUES[kind], lw=2, label=NAMES[kind])
        ax.set_xlabel("t", fontsize=9, color=QUIET)
        if i:
            ax.set_yscale("symlog", linthresh=0.1)
    ax.legend(frameon=False, fontsize=9)
    return figure
