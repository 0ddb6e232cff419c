"""The compiled programs of GSDNet: equal modules of several seeds and systems share them.

Every one takes the conversations of all splits (`Prepared`) and rows of them, so that one program
serves training, validation and test. `count`, static, is the number of utterances that is computed;
results have as many as the conversations of `data`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmdjax.methods.graph.diffusion import GraphModules, draw, shown
from mmdjax.methods.graph.modules import Predictor, completed
from mmdjax.methods.graph.states import GraphState, fitted, known_graphs
from mmdjax.methods.latent.draw import grid_of
from mmdjax.runtime.compilation import AheadOfTime, shared

if TYPE_CHECKING:
    from mmdjax.methods.settings import Diffusion
    from mmdjax.tasks import Task


class Sets(NamedTuple):
    """R completed conversations.

    Attributes:
      conversation: (R,) its row in `Grouped.data`. observed: (R, N, M) bool.
      x: (R, N, M, D), graphs: (R, N, S), what is observed as it is.
    """

    conversation: np.ndarray
    observed: np.ndarray
    x: np.ndarray
    graphs: np.ndarray


@shared
def compiled_draw(modules: GraphModules, diffusion: Diffusion) -> AheadOfTime:
    """Return (params, data, scale, key, rows, number, index, observed, count) -> x, graphs, nfe.

    number: (B,) of a conversation, index: (B,) of a draw; with `key` they are all of its noise.
    nfe: (B,).
    """
    options = {"prior": diffusion.prior} | diffusion.options()
    grid = grid_of(modules.sde, diffusion)

    def of_rows(params, data, scale, key, rows, number, index, observed, count):
        batch, total = data.at(rows, count), data.x.shape[1]
        given = shown(modules.state, batch.graphs, batch.x, observed[:, :count], scale)
        fold = lambda n, i: jax.random.fold_in(jax.random.fold_in(key, n), i)  # noqa: E731
        x, graphs, nfe = draw(
            modules,
            params,
            batch.graphs,
            given,
            jax.vmap(fold)(number, index),
            grid,
            diffusion.sampler,
            **options,
        )
        nfe = jnp.broadcast_to(nfe, rows.shape)
        return fitted(x, total), modules.state.resized(graphs, total), nfe

    return AheadOfTime.run_often(of_rows, static_argnames="count")


@shared
def compiled_prediction(predictor: Predictor, task: Task) -> Callable[..., jax.Array]:
    """Return (params, data, back, scale, *sets, count) -> predictions (B, N, ...) of the task."""
    state = predictor.state

    def of_rows(params, data, back, scale, rows, observed, x, graphs, count):
        batch, total, n = data.at(rows, count), data.x.shape[1], slice(count)
        graphs = state.resized(graphs, count)
        result = completed(predictor, params, batch, observed[:, n], x[:, n], graphs, scale, back)
        return fitted(task.read(result.output), total)

    return jax.jit(of_rows, static_argnames="count")


@shared
def compiled_shown(state: GraphState) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """Return (data, rows, observed, scale, count) -> `Shown`'s x and partial graphs."""

    def of_rows(data, rows, observed, scale, count):
        batch, total = data.at(rows, count), data.x.shape[1]
        given = shown(state, batch.graphs, batch.x, observed[:, :count], scale)
        return fitted(given.x, total), state.resized(given.partial, total)

    return jax.jit(of_rows, static_argnames="count")


@shared
def compiled_square(state: GraphState) -> AheadOfTime:
    """Return (data, rows) -> mean square of the state of graphs that are known."""

    def of_rows(data, rows):
        batch = data.at(rows, data.x.shape[1])
        given = shown(state, batch.graphs, batch.x, batch.present, 1.0)
        entries = state.entries(batch.graphs, ~given.kept)
        square = jnp.where(entries, given.partial**2, 0.0)
        return square.sum() / jnp.maximum(entries.sum(), 1)

    return AheadOfTime.run_once(of_rows)


@shared
def compiled_graphs(basis: str, edges: tuple[tuple[str, float], ...]) -> AheadOfTime:
    """Return (position, speaker, valid) -> `Graphs`, see `states.known_graphs`."""
    return AheadOfTime.run_once(functools.partial(known_graphs, eigenvectors=basis, **dict(edges)))
