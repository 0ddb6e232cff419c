"""Canonical correlations of networks' outputs, the objective of DCCA and DCCAE."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

LEAST = 1e-10  # eigenvalue whose square root still has a gradient


def moments(
    a: jax.Array, b: jax.Array, weight: jax.Array, ridge: float
) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array, jax.Array]]:
    """Return means (k,) and covariances (k, k) of two views (B, k), S_aa and S_bb with `ridge`.

    Args:
      weight: (B,) how often each row counts.
    """
    weight = weight / jnp.maximum(weight.sum(), 1e-9)
    means = weight @ a, weight @ b
    a, b = a - means[0], b - means[1]
    eye = ridge * jnp.eye(a.shape[1])
    left, right = a * weight[:, None], b * weight[:, None]
    return means, (left.T @ a + eye, left.T @ b, right.T @ b + eye)


def whitened(
    covariances: tuple[jax.Array, jax.Array, jax.Array],
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return L_a^-1 S_ab L_b^-T for S_aa = L_a L_a^T, and both factors.

    Its singular values are those of S_aa^-1/2 S_ab S_bb^-1/2 (Andrew et al. 2013, eq. 5), which
    differs by a rotation on either side. Unlike eigenvectors, Cholesky factors have a gradient
    where eigenvalues are equal.
    """
    s_aa, s_ab, s_bb = covariances
    left, right = jnp.linalg.cholesky(s_aa), jnp.linalg.cholesky(s_bb)
    half = jax.scipy.linalg.solve_triangular(left, s_ab, lower=True)
    return jax.scipy.linalg.solve_triangular(right, half.T, lower=True).T, left, right


def correlation(a: jax.Array, b: jax.Array, weight: jax.Array, ridge: float) -> jax.Array:
    """Return the sum of the canonical correlations of two views (B, k)."""
    t, _, _ = whitened(moments(a, b, weight, ridge)[1])
    return jnp.sqrt(jnp.maximum(jnp.linalg.eigvalsh(t @ t.T), LEAST)).sum()


def held_out(
    train: tuple[np.ndarray, np.ndarray], valid: tuple[np.ndarray, np.ndarray], ridge: float
) -> float:
    """Return the sum of correlations that directions found on one pair of views have on another.

    Args:
      train, valid: pairs of views (N, k).
    """
    means, covariances = moments(*map(jnp.asarray, train), jnp.ones(len(train[0])), ridge)
    t, left, right = whitened(covariances)
    u, _, v = np.linalg.svd(np.asarray(t))
    sides = ((valid[0], means[0], left, u), (valid[1], means[1], right, v.T))
    a, b = ((x - np.asarray(m)) @ np.linalg.solve(np.asarray(f).T, d) for x, m, f, d in sides)
    a, b = a - a.mean(0), b - b.mean(0)
    spread = np.sqrt((a**2).sum(0) * (b**2).sum(0))
    return float(((a * b).sum(0) / np.maximum(spread, 1e-9)).sum())
