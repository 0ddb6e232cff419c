"""The compiled programs of GSDNet: equal modules of several seeds and systems share them.

Every one takes the conversations of all splits (`Prepared`) and rows of them, so that one program
serves training, validation and test.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmdjax.diffusion import time_grid
from mmdjax.diffusion.samplers.registry import steps_for
from mmdjax.methods.graph.diffusion import GraphModules, draw, shown
from mmdjax.methods.graph.states import GraphState, fitted, known_graphs
from mmdjax.methods.gsdnet import Completed, Predictor, completed
from mmdjax.runtime.compilation import AheadOfTime, shared


class Sets(NamedTuple):
    """Q completed conversations of a split.

    Attributes:
      conversation: (Q,) its row. observed: (Q, N, M) bool.
      x: (Q, N, M, D), graphs: (Q, N, S), what is observed as it is.
    """

    conversation: np.ndarray
    observed: np.ndarray
    x: np.ndarray
    graphs: np.ndarray


@shared
def compiled_draw(modules: GraphModules, diffusion):
    """(params, data, scale, key, rows, number, observed, count) -> x, graphs, nfe.

    `count`, static, is the number of utterances that is computed; the result has as many as `data`.
    """
    options = diffusion.options()
    steps = steps_for(diffusion.sampler, diffusion.nfe, **options)
    grid = time_grid(diffusion.grid, modules.sde, steps, **diffusion.grid_arguments())
    grid = grid.astype(np.float32)

    def of_rows(params, data, scale, key, rows, number, observed, count):
        found, total = data.at(rows, count), data.x.shape[1]
        known = shown(modules.state, found.graphs, found.x, observed[:, :count], scale)
        fold = lambda c, n: jax.random.fold_in(jax.random.fold_in(key, c), n)  # noqa: E731
        about = (found.graphs, known, jax.vmap(fold)(rows, number), grid, diffusion.sampler)
        x, graphs, nfe = draw(modules, params, *about, **options)
        return fitted(x, total), modules.state.resized(graphs, total), nfe

    return AheadOfTime.run_often(of_rows, static_argnames="count")


@shared
def compiled_completion(predictor: Predictor):
    """(params, data, back, scale, *sets, count) -> `Completed`; `count` as in `compiled_draw`."""
    state = predictor.state

    def of_rows(params, data, back, scale, rows, observed, x, graphs, count):
        found, total, n = data.at(rows, count), data.x.shape[1], slice(count)
        sets = (observed[:, n], x[:, n], state.resized(graphs, count))
        made = completed(predictor, params, found, *sets, scale, back)
        graphs = state.resized(made.graphs, total)
        return Completed(fitted(made.prediction, total), fitted(made.x, total), graphs)

    return jax.jit(of_rows, static_argnames="count")


@shared
def compiled_shown(state: GraphState):
    def of_rows(data, rows, observed, scale):
        found = data.at(rows, data.x.shape[1])
        return shown(state, found.graphs, found.x, observed, scale)

    return jax.jit(of_rows)


@shared
def compiled_square(state: GraphState):
    """(data, rows) -> mean square of the state."""

    def of_rows(data, rows):
        found = data.at(rows, data.x.shape[1])
        known = shown(state, found.graphs, found.x, jnp.ones(found.x.shape[:3], bool), 1.0)
        entries = state.entries(found.graphs, jnp.zeros_like(known.whole))
        square = jnp.where(entries, known.partial**2, 0.0)
        return square.sum() / jnp.maximum(entries.sum(), 1)

    return AheadOfTime.run_once(of_rows)


@shared
def compiled_graphs(basis: str, edges: tuple[tuple[str, float], ...]):
    return AheadOfTime.run_once(functools.partial(known_graphs, eigenvectors=basis, **dict(edges)))
