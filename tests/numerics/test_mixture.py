"""The synthetic law's closed forms against definitions and against samples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mmdjax.data.sources import mixture
from mmdjax.data.sources.synthetic import Law
from tests.numerics import exact_laws


@pytest.fixture
def small(rng):
    factor = rng.standard_normal((3, 4, 4))
    return mixture.Mixture(
        np.array([0.5, 0.3, 0.2]),
        rng.standard_normal((3, 4)),
        factor @ factor.transpose(0, 2, 1) + 0.1 * np.eye(4),
    )


def density(law: mixture.Mixture, x):
    return sum(
        w * stats.multivariate_normal(m, c).pdf(x)
        for w, m, c in zip(law.weight, law.mean, law.cov, strict=True)
    )


def test_conditional_density_is_the_joint_over_the_marginal(small, rng):
    target, given = np.array([0, 2]), np.array([1, 3])
    values = rng.standard_normal((5, 2))
    law = small.condition(target, given, values)
    marginal = mixture.Mixture(small.weight, small.mean[:, given], small.cov[:, given][:, :, given])
    for row in range(5):
        x = rng.standard_normal(2)
        conditional = mixture.Mixture(np.exp(law.log_weight[row]), law.mean[row], law.cov)
        joint = np.empty(4)
        joint[target], joint[given] = x, values[row]
        np.testing.assert_allclose(
            density(conditional, x), density(small, joint) / density(marginal, values[row])
        )


@pytest.mark.parametrize(("alpha", "std"), [(1.0, 0.3), (0.4, 0.9)])
def test_score_is_the_gradient_of_the_diffused_log_density(small, rng, alpha, std):
    law = small.condition(np.arange(4), np.arange(0), np.zeros((1, 0)))
    x = rng.standard_normal((1, 4)).astype(np.float32)

    def log_density(x):
        parts = [
            jnp.log(w)
            + jax.scipy.stats.multivariate_normal.logpdf(
                x, alpha * m, alpha**2 * c + std**2 * np.eye(4)
            )
            for w, m, c in zip(small.weight, small.mean, small.cov, strict=True)
        ]
        return jax.scipy.special.logsumexp(jnp.stack(parts))

    np.testing.assert_allclose(
        exact_laws.score(law, x, alpha, std)[0], jax.grad(log_density)(x[0]), rtol=2e-3
    )


def test_median_halves_the_posterior(small, rng):
    law = small.condition(np.array([0]), np.array([1, 3]), rng.standard_normal((6, 2)))
    middle = mixture.median(law)
    std = np.sqrt(law.cov[:, 0, 0])
    below = (
        np.exp(law.log_weight) * stats.norm.cdf((middle[:, None] - law.mean[..., 0]) / std)
    ).sum(1)
    np.testing.assert_allclose(below, 0.5, atol=1e-9)
    np.testing.assert_array_equal(middle > 0, mixture.probability_positive(law) > 0.5)


def test_samples_have_the_law_s_moments():
    law = Law(0)
    count = 20000
    batch = law.sample(count, 7, "x")
    names = list(law.shapes)
    joint = law.flatten(batch.features, names)
    everything = law.mixture.condition(law.indices(names), np.arange(0), np.zeros((1, 0)))
    mean, cov = (a[0] for a in exact_laws.moments(everything))
    error = np.sqrt(np.diag(cov) / count)
    assert (np.abs(joint.mean(0) - mean) < 5 * error).all()
    np.testing.assert_allclose(np.cov(joint.T), cov, atol=0.08)


def test_bayes_prediction_is_calibrated_and_better_with_more_modalities():
    law = Law(0)
    batch = law.sample(6000, 3, "x")
    label, accuracy = batch.label, {}
    for given in (["acoustic"], ["language"], ["language", "acoustic", "vision"]):
        probability = mixture.probability_positive(law.label_posterior(given, batch.features))
        # Calibration: among those called positive with p near 0.8, about 80 % are.
        near = np.abs(probability - 0.8) < 0.1
        assert abs((label[near] > 0).mean() - probability[near].mean()) < 0.06
        accuracy[len(given), given[0]] = ((probability > 0.5) == (label > 0)).mean()
    assert accuracy[1, "acoustic"] < accuracy[1, "language"] < accuracy[3, "language"]
