"""What of a modality's graph is diffused: its spectrum (GSDNet), or its whole matrix (GDSS).

A state (B, N, S) stands for M graphs of N utterances; `matrices` is linear in it. 'spectral' holds
the eigenvalues of the graphs' deviations from the structure, S = M. 'dense' holds the adjacency
matrices themselves, S = N M, as Jo et al. (2022), "GDSS", diffuse them: noise is symmetric, so only
the upper triangle counts.

Where a modality misses utterances its graph is unknown, but not wholly: `of` takes the likeness of
observed pairs and none for the others, and what it gives is what the drawn graph is conditioned on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mmdjax.errors import choice
from mmdjax.graphs.conversation import BASES, by_likeness, normalised, structure
from mmdjax.graphs.spectral import Basis, basis, rebuilt, spectrum


class Graphs(NamedTuple):
    """What is known of a batch of conversations without their features.

    Attributes:
      valid: (B, N) bool. weights: (B, N, N) of the structure. basis: its eigenvectors.
    """

    valid: jax.Array
    weights: jax.Array
    basis: Basis


class GraphState(NamedTuple):
    """Functions of one kind of state; `modalities` is M.

    Attributes:
      columns: (N, M) -> S.
      of: (graphs, x (B, N, M, D), observed (B, N, M)) -> (B, N, S); x is read where observed.
      entries: (graphs, kept (B, M)) -> (B, N, S) bool, what is to be drawn: nothing of a modality
        whose graph is kept as it is.
      matrices: (graphs, state) -> (B, M, N, N), linear in the state.
      origin: graphs -> (B, N, N), the normalised graph whose state is 0.
      tokens: (graphs, state, partial, observed) -> (B, ..., F) inputs of a network.
      features: (graphs, x (B, N, M, D)) -> (B, ..., F'), what such tokens hold of features: their
        coefficients in the basis, or for each pair their inner products.
      seen: graphs -> (B, N) bool, which of them are not padding.
      resized: (state, n) -> the state of n utterances, cut or filled with 0.
    """

    columns: Callable
    of: Callable
    entries: Callable
    matrices: Callable
    origin: Callable
    tokens: Callable
    features: Callable
    seen: Callable
    resized: Callable


def known_graphs(
    position: jax.Array,
    speaker: jax.Array,
    valid: jax.Array,
    eigenvectors: str = "structure",
    **edges: float,
) -> Graphs:
    """From (B, N) each.

    Args:
      eigenvectors: of `graphs.conversation.BASES`. edges: see `graphs.conversation.structure`.

    Raises:
      UserError: no such basis.
    """
    choice("basis", eigenvectors, tuple(BASES))

    def of(*row):
        known = structure(*row, **(edges | BASES[eigenvectors]))
        return structure(*row, **edges), basis(normalised(known), row[2])

    return Graphs(valid, *jax.vmap(of)(position, speaker, valid))


def shortened(graphs: Graphs, utterances: int) -> Graphs:
    """The same conversations padded to fewer utterances; none may have more."""
    n = slice(utterances)
    vectors, values, present = graphs.basis
    short = Basis(vectors[:, n, n], values[:, n], present[:, n])
    return Graphs(graphs.valid[:, n], graphs.weights[:, n, n], short)


def adjacencies(graphs: Graphs, x: jax.Array, observed: jax.Array) -> jax.Array:
    """Each modality's own normalised graph (B, M, N, N), from what is observed of x."""
    own = jax.vmap(lambda w, x, seen: normalised(by_likeness(w, x, seen)), (None, 1, 1))
    return jax.vmap(own)(graphs.weights, x, observed)


def _structures(graphs: Graphs) -> jax.Array:
    return jax.vmap(normalised)(graphs.weights)


def _spectra(graphs: Graphs, x: jax.Array, observed: jax.Array) -> jax.Array:
    deviation = adjacencies(graphs, x, observed) - _structures(graphs)[:, None]
    return jax.vmap(jax.vmap(spectrum, (0, None), 1))(deviation, graphs.basis)


def _eigenvalues(graphs: Graphs, kept: jax.Array) -> jax.Array:
    return graphs.basis.present[..., None] & ~kept[:, None]


def _rebuilt(graphs: Graphs, state: jax.Array) -> jax.Array:
    return jax.vmap(jax.vmap(rebuilt, (1, None)))(state, graphs.basis)


def _spectral_tokens(
    graphs: Graphs, state: jax.Array, partial: jax.Array, observed: jax.Array
) -> jax.Array:
    share = observed.sum(1) / jnp.maximum(graphs.valid.sum(1), 1)[:, None]
    share = jnp.broadcast_to(share[:, None], state.shape)
    return jnp.concatenate((state, partial, share, graphs.basis.values[..., None]), -1)


def _coefficients(graphs: Graphs, x: jax.Array) -> jax.Array:
    """The graph Fourier transform of features: all that there is to know of them."""
    flat = jnp.where(graphs.valid[..., None], x.reshape(*x.shape[:2], -1), 0.0)
    return jnp.einsum("bni,bnf->bif", graphs.basis.vectors, flat)


def _products(graphs: Graphs, x: jax.Array) -> jax.Array:
    x = jnp.where(graphs.valid[..., None, None], x, 0.0)
    return jnp.einsum("bimd,bjmd->bijm", x, x) / x.shape[-1]


def fitted(a: jax.Array, count: int, axis: int = 1) -> jax.Array:
    """Cut or filled with 0 to `count` along an axis."""
    a = jax.lax.slice_in_dim(a, 0, min(count, a.shape[axis]), axis=axis)
    more = [(0, count - a.shape[axis] if i == axis else 0) for i in range(a.ndim)]
    return jnp.pad(a, more)


def _flat(matrices: jax.Array) -> jax.Array:
    """(B, M, N, N) -> (B, N, N M)."""
    batch, modalities, count, _ = matrices.shape
    return jnp.moveaxis(matrices, 1, 3).reshape(batch, count, count * modalities)


def _pairs(state: jax.Array) -> jax.Array:
    """(B, N, N M) -> (B, N, N, M)."""
    batch, count, columns = state.shape
    return state.reshape(batch, count, count, columns // count)


def _resized_pairs(state: jax.Array, count: int) -> jax.Array:
    pairs = fitted(fitted(_pairs(state), count, 1), count, 2)
    return pairs.reshape(state.shape[0], count, -1)


def _upper(graphs: Graphs, kept: jax.Array) -> jax.Array:
    pairs = jnp.triu(graphs.valid[:, :, None] & graphs.valid[:, None, :])
    return (pairs[..., None] & ~kept[:, None, None]).reshape(*graphs.valid.shape, -1)


def _symmetric(graphs: Graphs, state: jax.Array) -> jax.Array:
    upper = jnp.triu(jnp.moveaxis(_pairs(state), 3, 1))
    return upper + jnp.triu(upper, 1).swapaxes(-1, -2)


def _dense_tokens(
    graphs: Graphs, state: jax.Array, partial: jax.Array, observed: jax.Array
) -> jax.Array:
    both = observed[:, :, None] & observed[:, None]
    matrices = [jnp.moveaxis(_symmetric(graphs, part), 1, 3) for part in (state, partial)]
    return jnp.concatenate((*matrices, both.astype(state.dtype)), -1)


REGISTRY = {
    "spectral": GraphState(
        columns=lambda utterances, modalities: modalities,
        of=_spectra,
        entries=_eigenvalues,
        matrices=_rebuilt,
        origin=_structures,
        tokens=_spectral_tokens,
        features=_coefficients,
        seen=lambda graphs: graphs.basis.present,
        resized=lambda state, count: fitted(state, count, 1),
    ),
    "dense": GraphState(
        columns=lambda utterances, modalities: utterances * modalities,
        of=lambda *given: _flat(adjacencies(*given)),
        entries=_upper,
        matrices=_symmetric,
        origin=lambda graphs: jnp.zeros_like(graphs.weights),
        tokens=_dense_tokens,
        features=_products,
        seen=lambda graphs: graphs.valid,
        resized=_resized_pairs,
    ),
}
