"""A graph as eigenvalues in a basis that is always known.

GSDNet diffuses the eigenvalues of a modality's adjacency matrix and keeps its eigenvectors. Those
of a missing modality are unknown, which the paper leaves open. Our reading: the basis U comes from
the structure (time and speakers), which needs no features; a modality's spectrum is
Lambda_m = diag(U' A_m U), and A^_m = U Lambda_m U' is, of all matrices U diag(.) U', the nearest to
A_m (Frobenius norm; where no eigenvalues tie). `kept` says how much of A_m it holds.

Eigenvectors are known up to their sign, which drops out of diag(U' A U), and up to any rotation
where eigenvalues tie. `tied` averages a spectrum over ties, so that nothing depends on either.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

TIE = 1e-3  # eigenvalues (of at most 1) closer than about this count as tied
PADDED = 2.0  # an eigenvalue beyond all those of a normalised graph


class Basis(NamedTuple):
    """Eigenvectors of the graph of a conversation, in ascending order of `values`.

    Attributes:
      vectors: (N, N), columns; 0 in rows and columns of padding.
      values: (N,) of the structure; 0 for padding, which comes last.
      present: (N,) bool: the column is not padding.
    """

    vectors: jnp.ndarray
    values: jnp.ndarray
    present: jnp.ndarray


def basis(adjacency: jax.Array, valid: jax.Array) -> Basis:
    """Return the eigenvectors of a normalised graph; padded nodes contribute nothing.

    Args:
      adjacency: (N, N) symmetric, 0 in rows of padding. valid: (N,) bool.
    """
    # A padded node is an eigenvector of its own, behind all others.
    values, vectors = jnp.linalg.eigh(adjacency + jnp.diag(jnp.where(valid, 0.0, PADDED)))
    present = jnp.arange(len(valid)) < valid.sum()
    vectors = jnp.where(present[None, :] & valid[:, None], vectors, 0.0)
    return Basis(vectors, jnp.where(present, values, 0.0), present)


def spectrum(adjacency: jax.Array, basis: Basis) -> jax.Array:
    """Return Lambda (N,) = diag(U' A U), averaged over ties; 0 for padding."""
    return tied(jnp.einsum("ik,ij,jk->k", basis.vectors, adjacency, basis.vectors), basis)


def rebuilt(spectrum: jax.Array, basis: Basis) -> jax.Array:
    """Return A^ (N, N) = U diag(Lambda) U'."""
    return (basis.vectors * tied(spectrum, basis)) @ basis.vectors.T


def tied(values: jax.Array, basis: Basis) -> jax.Array:
    """Return values (N,) averaged over eigenvalues that tie, smoothly: exp(-(difference / TIE)^2).

    Within a tie only the sum of diag(U' A U) is a property of A, not its parts. After averaging,
    U diag(.) U' is the same for every choice of eigenvectors.
    """
    closeness = jnp.exp(-(((basis.values[:, None] - basis.values[None, :]) / TIE) ** 2))
    closeness = closeness * basis.present[:, None] * basis.present[None, :]
    total = closeness.sum(-1)
    return closeness @ values / jnp.where(total > 0, total, 1.0)


def kept(adjacency: jax.Array, basis: Basis) -> jax.Array:
    """Return the share of |A|^2 (Frobenius) that the spectrum holds, 0 to 1."""
    lost = adjacency - rebuilt(spectrum(adjacency, basis), basis)
    return 1 - jnp.sum(lost**2) / jnp.sum(adjacency**2)
