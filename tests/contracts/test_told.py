"""A predictor that is told what is not observed: what it starts as, and what it can learn."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmdjax.networks.fusion import MulT
from mmdjax.networks.pooled import PooledMLP

NETWORKS = [PooledMLP(1, 8, 0.0, told=True), MulT(1, 2, 0.0, 0.0, told=True)]


@pytest.fixture
def rows(rng):
    x = jnp.asarray(rng.standard_normal((6, 2, 3, 4)), jnp.float32)
    return x, jnp.ones((6, 2, 3), bool)


@pytest.mark.parametrize("network", NETWORKS, ids=["pooled", "mult"])
def test_it_starts_as_one_that_is_not_told(network, rows):
    params = network.init(jax.random.key(0), *rows)
    seen = jnp.array([[True, False]] * 6)
    whole = network.apply(params, *rows)
    np.testing.assert_array_equal(whole, network.apply(params, *rows, observed=seen))

    def loss(params, observed):
        return network.apply(params, *rows, observed=observed).sum()

    def of_filled(observed):
        gradients = jax.tree_util.tree_leaves_with_path(jax.grad(loss)(params, observed))
        return sum(np.abs(g).sum() for path, g in gradients if "filled" in str(path))

    assert of_filled(seen) > 0 and of_filled(jnp.ones((6, 2), bool)) == 0


@pytest.mark.parametrize(("told", "slope"), [(True, 1.0), (False, 0.5)])
def test_draws_that_say_nothing_weaken_what_is_observed_only_where_it_is_not_told(told, slope):
    """y is what a modality says; in half of the rows it is hidden, and a draw from nothing stands
    in its place. The best predictor that cannot tell them apart has half of the slope."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4000, 2, 1, 1)).astype(np.float32)
    x[:, 1] = 0
    hidden = np.arange(4000) % 2 == 0
    y = np.where(hidden, rng.standard_normal(4000), x[:, 0, 0, 0]).astype(np.float32)
    observed, valid = np.stack([~hidden, np.ones(4000, bool)], 1), np.ones((4000, 2, 1), bool)
    network = PooledMLP(1, 1, 0.0, told=told)
    params = network.init(jax.random.key(0), x[:1], valid[:1])
    optimiser = optax.adam(0.05)

    def loss(params):
        made = network.apply(params, x, valid, observed=observed)[:, 0]
        return ((made - y) ** 2).mean()

    @jax.jit
    def step(carry, _):
        updates, state = optimiser.update(jax.grad(loss)(carry[0]), carry[1])
        return (optax.apply_updates(carry[0], updates), state), None

    params, _ = jax.lax.scan(step, (params, optimiser.init(params)), None, 400)[0]
    ends = np.array([[-1.0], [1.0]], np.float32)
    rows = np.stack([ends, 0 * ends], 1)[..., None]
    low, high = network.apply(params, rows, valid[:2], observed=np.ones((2, 2), bool))[:, 0]
    assert abs((high - low) / 2 - slope) < 0.08
