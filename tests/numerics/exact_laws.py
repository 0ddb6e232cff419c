"""What tests know exactly of a Gaussian mixture: its moments and its score at every time."""

import jax
import jax.numpy as jnp
import numpy as np

from mmdjax.data.sources.mixture import Conditional


def moments(law: Conditional) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean (N, Q) and covariance (N, Q, Q) of each row's law."""
    weight = np.exp(law.log_weight)
    mean = np.einsum("ng,ngq->nq", weight, law.mean)
    gap = law.mean - mean[:, None]
    cov = np.einsum("ng,gpq->npq", weight, law.cov)
    return mean, cov + np.einsum("ng,ngp,ngq->npq", weight, gap, gap)


def score(law: Conditional, x, alpha, std):
    """Return the score of the law of alpha x(0) + std z at x (N, Q), exact at every time."""
    log_weight, mean = jnp.asarray(law.log_weight), alpha * jnp.asarray(law.mean)
    # Eigenvectors do not depend on time: the diffused covariance is U (alpha^2 L + std^2) U'.
    values, vectors = np.linalg.eigh(law.cov)
    spread = alpha**2 * jnp.asarray(values) + std**2
    vectors = jnp.asarray(vectors)
    gap = jnp.einsum("gqe,ngq->nge", vectors, x[:, None] - mean)
    log_density = -0.5 * (gap**2 / spread + jnp.log(spread)).sum(-1)
    weight = jax.nn.softmax(log_weight + log_density, axis=-1)
    return -jnp.einsum("ng,gqe,nge->nq", weight, vectors, gap / spread)
