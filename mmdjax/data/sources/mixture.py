"""Gaussian mixtures: conditionals, diffused scores and label posteriors in closed form.

numpy float64 throughout, but for `Conditional.score`, which is jax and can stand in for a network.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special


@dataclasses.dataclass(frozen=True)
class Conditional:
    """A mixture for each of N rows: own weights and means, shared covariances.

    Attributes:
      log_weight: (N, G).
      mean: (N, G, Q).
      cov: (G, Q, Q).
    """

    log_weight: np.ndarray
    mean: np.ndarray
    cov: np.ndarray

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean (N, Q) and covariance (N, Q, Q) of each row's law."""
        weight = np.exp(self.log_weight)
        mean = np.einsum("ng,ngq->nq", weight, self.mean)
        gap = self.mean - mean[:, None]
        cov = np.einsum("ng,gpq->npq", weight, self.cov)
        return mean, cov + np.einsum("ng,ngp,ngq->npq", weight, gap, gap)

    def sample(self, rng: np.random.Generator) -> np.ndarray:
        """One draw a row, (N, Q)."""
        rows, components = self.log_weight.shape
        weight = np.exp(self.log_weight)
        component = (rng.random((rows, 1)) > np.cumsum(weight, 1)).sum(1).clip(max=components - 1)
        noise = rng.standard_normal((rows, self.mean.shape[-1]))
        factor = np.linalg.cholesky(self.cov + 1e-12 * np.eye(self.cov.shape[-1]))
        draw = self.mean[np.arange(rows), component]
        for g in range(components):
            draw[component == g] += noise[component == g] @ factor[g].T
        return draw

    def score(self, x, alpha, std):
        """Score of the law of alpha x(0) + std z at x (N, Q): exact at every diffusion time."""
        log_weight, mean = jnp.asarray(self.log_weight), alpha * jnp.asarray(self.mean)
        # Eigenvectors do not depend on time: the diffused covariance is U (alpha^2 L + std^2) U'.
        values, vectors = np.linalg.eigh(self.cov)
        spread = alpha**2 * jnp.asarray(values) + std**2
        vectors = jnp.asarray(vectors)
        gap = jnp.einsum("gqe,ngq->nge", vectors, x[:, None] - mean)
        log_density = -0.5 * (gap**2 / spread + jnp.log(spread)).sum(-1)
        weight = jax.nn.softmax(log_weight + log_density, axis=-1)
        return -jnp.einsum("ng,gqe,nge->nq", weight, vectors, gap / spread)


@dataclasses.dataclass(frozen=True)
class Mixture:
    """weight (G,), mean (G, P), cov (G, P, P)."""

    weight: np.ndarray
    mean: np.ndarray
    cov: np.ndarray

    def map(self, matrix: np.ndarray) -> Mixture:
        """The law of matrix @ v, matrix (Q, P)."""
        return Mixture(self.weight, self.mean @ matrix.T, matrix @ self.cov @ matrix.T)

    def condition(self, target, given, values) -> Conditional:
        """The law of v[target] given v[given] = values.

        Args:
          target, given: index arrays into the P dimensions; `given` may be empty.
          values: (N, len(given)).
        """
        log_weight = np.tile(np.log(self.weight), (len(values), 1))
        means, covs = [], []
        for g in range(len(self.weight)):
            mean, cov = self.mean[g], self.cov[g]
            # Least squares rather than an inverse: linear encoders make singular covariances.
            gain = np.linalg.pinv(cov[np.ix_(given, given)], rcond=1e-10, hermitian=True)
            gain = cov[np.ix_(target, given)] @ gain
            gap = values - mean[given]
            means.append(mean[target] + gap @ gain.T)
            covs.append(cov[np.ix_(target, target)] - gain @ cov[np.ix_(given, target)])
            log_weight[:, g] += _log_density(gap, cov[np.ix_(given, given)])
        log_weight -= special.logsumexp(log_weight, axis=1, keepdims=True)
        return Conditional(log_weight, np.stack(means, 1), np.stack(covs))


def _log_density(gap: np.ndarray, cov: np.ndarray) -> np.ndarray:
    """log N(gap; 0, cov) on the support of cov, (N,)."""
    values, vectors = np.linalg.eigh(cov)
    keep = values > 1e-10 * values.max(initial=0.0)
    white = gap @ vectors[:, keep] / np.sqrt(values[keep])
    return -0.5 * ((white**2).sum(1) + np.log(2 * np.pi * values[keep]).sum())


def median(law: Conditional) -> np.ndarray:
    """Median (N,) of one-dimensional laws, by bisection on the exact distribution function.

    The posterior median minimises the absolute error, and its sign the zero-one error of the sign:
    one prediction that is Bayes-optimal for MAE and for ACC2.
    """
    mean, std = law.mean[..., 0], np.sqrt(law.cov[:, 0, 0])
    weight = np.exp(law.log_weight)
    low, high = (mean - 8 * std).min(1), (mean + 8 * std).max(1)
    for _ in range(80):
        middle = (low + high) / 2
        below = (weight * special.ndtr((middle[:, None] - mean) / std)).sum(1) < 0.5
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2


def probability_positive(law: Conditional) -> np.ndarray:
    """P(v > 0) (N,) of one-dimensional laws."""
    std = np.sqrt(law.cov[:, 0, 0])
    return (np.exp(law.log_weight) * special.ndtr(law.mean[..., 0] / std)).sum(1)
