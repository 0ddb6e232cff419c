"""Canonical correlations: the objective of DCCA against a library's closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cca_zoo.linear import CCA

from mmdjax.methods.vector import cca

ROWS, RIDGE = 400, 1e-6


@pytest.fixture
def views():
    """Two linear views of three latents, the third seen badly."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(ROWS, 3)) * [1.0, 1.0, 0.5]
    made = (z @ rng.normal(size=(3, c)) + 0.7 * rng.normal(size=(ROWS, c)) for c in (5, 4))
    return tuple(x.astype(np.float32) for x in made)


def closed_form(views, count: int) -> np.ndarray:
    model = CCA(n_components=count).fit(views)
    scores = model.transform(views)
    return np.array([np.corrcoef(scores[0][:, i], scores[1][:, i])[0, 1] for i in range(count)])


def test_the_objective_is_the_sum_of_canonical_correlations(views):
    padded = [np.pad(x, ((0, 0), (0, 5 - x.shape[1]))) for x in views]
    got = cca.correlation(*padded, jnp.ones(ROWS), RIDGE)
    np.testing.assert_allclose(got, closed_form(views, 4).sum(), atol=1e-3)


def test_rows_of_weight_zero_do_not_count(views):
    weight = np.r_[np.ones(ROWS), np.zeros(3)].astype(np.float32)
    more = [np.r_[x, np.full((3, x.shape[1]), 9.0, np.float32)] for x in views]
    more[1] = np.pad(more[1], ((0, 0), (0, 1)))
    got = cca.correlation(*more, weight, RIDGE)
    np.testing.assert_allclose(got, closed_form(views, 4).sum(), atol=1e-3)


def test_linear_networks_learn_the_canonical_directions(views):
    """Two outputs a view: the largest sum is that of the first two canonical correlations."""
    weight, optimiser = jnp.ones(ROWS), optax.adam(0.02)

    def loss(params):
        outputs = (x @ w for x, w in zip(views, params, strict=True))
        return -cca.correlation(*outputs, weight, RIDGE)

    def step(carry, _):
        change, state = optimiser.update(jax.grad(loss)(carry[0]), carry[1])
        return (optax.apply_updates(carry[0], change), state), None

    keys = jax.random.split(jax.random.key(1))
    start = [jax.random.normal(k, (x.shape[1], 2)) for k, x in zip(keys, views, strict=True)]
    params, _ = jax.lax.scan(step, (start, optimiser.init(start)), None, 600)[0]
    expected = closed_form(views, 2).sum()
    np.testing.assert_allclose(-loss(params), expected, atol=2e-3)
    outputs = [np.asarray(x @ w) for x, w in zip(views, params, strict=True)]
    np.testing.assert_allclose(cca.held_out(outputs, outputs, RIDGE), expected, atol=5e-3)
    noise = np.random.default_rng(1).normal(size=(2, ROWS, 2))
    assert abs(cca.held_out(outputs, noise, RIDGE)) < 0.3


def test_gradients_are_finite_where_a_pair_has_no_row():
    a = jnp.ones((4, 3))
    value, gradient = jax.value_and_grad(cca.correlation)(a, a, jnp.zeros(4), 1e-3)
    assert value < 1e-4 and np.isfinite(gradient).all()
