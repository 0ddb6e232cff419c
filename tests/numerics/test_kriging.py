"""Kriging against the formulas of conditional Gaussians."""

import jax
import numpy as np
import pytest

from mmdjax.data import kriging

FRAMES, CHANNELS = 7, 3


def random_field(seed=0, axes=2):
    rng = np.random.default_rng(seed)

    def positive():
        root = rng.standard_normal((CHANNELS, CHANNELS))
        return root @ root.T / CHANNELS

    parts = positive() + 0.3 * np.eye(CHANNELS), positive(), positive()
    shape = FRAMES, CHANNELS, axes
    return kriging.Field(*(np.float32(a) for a in (*parts, rng.standard_normal(shape))))


def dense(field):
    """Return the covariance between all entries, (T C, T C)."""
    unit = np.eye(FRAMES * CHANNELS, dtype=np.float32).reshape(-1, FRAMES, CHANNELS)
    return np.asarray(kriging.product(field, unit)).reshape(len(unit), -1).astype(np.float64)


def simulated(covariance, rows, seed=1):
    rng = np.random.default_rng(seed)
    x = rng.multivariate_normal(np.zeros(len(covariance)), covariance, rows)
    return x.reshape(rows, FRAMES, CHANNELS).astype(np.float32)


def test_a_product_is_that_of_the_formula():
    field, time = random_field(), np.arange(FRAMES)
    lag = np.abs(time[:, None] - time)
    terms = zip(
        (lag == 0, np.exp(-lag / kriging.MEMORY), np.ones_like(lag)), field[:3], strict=True
    )
    axes = field.axes.reshape(-1, field.axes.shape[-1])
    expected = sum(np.kron(k, part) for k, part in terms) + axes @ axes.T
    np.testing.assert_allclose(dense(field), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("entries", [True, False], ids=["entries", "frames"])
def test_the_conditional_mean_is_exact(entries):
    field = random_field()
    covariance = dense(field)
    x = simulated(covariance, 16)
    shape = x.shape if entries else (*x.shape[:2], 1)
    known = np.random.default_rng(2).random(shape) < 0.5
    found = np.asarray(kriging.conditional_mean(field, x, known))
    for row, shown in enumerate(np.broadcast_to(known, x.shape).reshape(len(x), -1)):
        weights = np.linalg.solve(covariance[np.ix_(shown, shown)], x[row].reshape(-1)[shown])
        expected = covariance[:, shown] @ weights
        np.testing.assert_allclose(found[row].reshape(-1), expected, atol=2e-2)


def test_what_is_not_known_is_not_read_and_company_changes_nothing():
    field = random_field()
    x = simulated(dense(field), 8)
    known = np.random.default_rng(3).random(x.shape) < 0.3
    found = kriging.conditional_mean(field, x, known)
    hidden = np.where(known, x, np.nan)
    np.testing.assert_array_equal(kriging.conditional_mean(field, hidden, known), found)
    alone = np.concatenate(
        [kriging.conditional_mean(field, x[i : i + 1], known[i : i + 1]) for i in range(8)]
    )
    np.testing.assert_allclose(alone, found, atol=1e-3)


def test_corrected_draws_have_the_conditional_law():
    field = random_field()
    covariance = dense(field)
    x = np.repeat(simulated(covariance, 1), 20000, 0)
    known = np.zeros(x.shape[1:], bool)
    known[:4] = known[5, 0] = True
    # The difference of two independent draws of a law has twice its covariance.
    drawn = simulated(covariance, len(x), seed=4)
    twice = kriging.Field(*(2 * a for a in field[:3]), np.float32(np.sqrt(2)) * field.axes)
    found = np.asarray(jax.jit(kriging.corrected)(twice, drawn, x, known[None])).reshape(len(x), -1)
    shown, rest = known.reshape(-1), ~known.reshape(-1)
    gain = covariance[np.ix_(rest, shown)] @ np.linalg.inv(covariance[np.ix_(shown, shown)])
    mean = gain @ x[0].reshape(-1)[shown]
    law = covariance[np.ix_(rest, rest)] - gain @ covariance[np.ix_(shown, rest)]
    deviation = np.sqrt(np.diag(law))
    np.testing.assert_allclose(found[:, rest].mean(0), mean, atol=0.05 * deviation.max())
    np.testing.assert_allclose(np.cov(found[:, rest].T), law, atol=0.05 * law.max())


@pytest.mark.parametrize("share", [1.0, 0.5], ids=["all entries", "half of them"])
def test_a_fit_finds_the_covariance(share):
    field = random_field(axes=0)
    covariance = dense(field)
    x = simulated(covariance, 1024)
    known = np.random.default_rng(5).random(x.shape) <= share
    found = dense(kriging.fit(x, known))
    assert np.abs(found - covariance).max() < 0.15 * covariance.max()


def test_axes_are_taken_where_places_differ():
    field = kriging.Field(*(np.float32(0.01) * a for a in random_field()[:3]), random_field().axes)
    x = simulated(dense(field), 1200)
    known = np.ones((*x.shape[:2], 1), bool)
    shown = np.random.default_rng(6).random(known.shape) < 0.5
    chosen = kriging.fit(x[:1000], known[:1000], shown[:1000])
    without = kriging.fit(x[:1000], known[:1000])
    assert chosen.axes.shape[-1] > 0 == without.axes.shape[-1]

    def error(field):
        filled = np.asarray(kriging.conditional_mean(field, x[1000:], shown[1000:]))
        return float(((filled - x[1000:]) ** 2 * ~shown[1000:]).mean())

    assert error(chosen) < 0.5 * error(without)


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_short_sequences_have_a_covariance(frames):
    x = np.random.default_rng(0).standard_normal((200, frames, CHANNELS)).astype(np.float32)
    known = np.ones((200, frames, 1), bool)
    field = kriging.fit(x, known)
    mean = np.asarray(kriging.conditional_mean(field, x, known))
    np.testing.assert_allclose(mean, x, atol=0.02)
