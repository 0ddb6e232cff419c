"""Normalising flows against automatic differentiation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdjax.networks import flow


def moved(params, seed: int):
    """Parameters with noise on all of them."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    noisy = [a + 0.2 * jax.random.normal(k, a.shape) for a, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, noisy)


def random_flow(channels: int, seed: int = 0):
    """A flow none of whose parameters is at its start."""
    step = flow.Step(channels, hidden=16)
    return step, moved(flow.init(step, 3, jax.random.key(seed)), seed + 1)


@pytest.mark.parametrize("channels", [2, 5, 8])
def test_the_inverse_of_a_flow_is_its_inverse(channels):
    step, params = random_flow(channels)
    x = jax.random.normal(jax.random.key(9), (4, 6, channels))
    z, _ = flow.forward(step, params, x)
    assert float(jnp.abs(z - x).max()) > 0.1
    np.testing.assert_allclose(flow.inverse(step, params, z), x, atol=2e-5)
    np.testing.assert_allclose(
        flow.forward(step, params, flow.inverse(step, params, x))[0], x, atol=2e-5
    )


@pytest.mark.parametrize("channels", [2, 5, 8])
def test_the_log_determinant_of_a_flow_is_that_of_its_jacobian(channels):
    step, params = random_flow(channels)
    x = jax.random.normal(jax.random.key(9), (7, channels))
    jacobian = jax.vmap(jax.jacfwd(lambda v: flow.forward(step, params, v)[0]))(x)
    expected = np.linalg.slogdet(np.asarray(jacobian, np.float64))[1]
    np.testing.assert_allclose(flow.forward(step, params, x)[1], expected, atol=2e-5)


def test_every_channel_is_transformed():
    """The published forward pass leaves half of the channels as they are."""
    step, params = random_flow(6)
    x = jax.random.normal(jax.random.key(9), (50, 6))
    z, _ = flow.forward(step, params, x)
    assert (np.abs(z[:, :, None] - x[:, None]).max(0) > 0.1).all()


def test_without_mixing_the_first_half_is_copied_and_the_rest_still_inverted():
    step = flow.Step(6, hidden=16, mixes=False)
    params = moved(flow.init(step, 3, jax.random.key(0)), 1)
    x = jax.random.normal(jax.random.key(9), (7, 6))
    z, volume = flow.forward(step, params, x)
    np.testing.assert_array_equal(z[:, :3], x[:, :3])
    assert float(jnp.abs(z[:, 3:] - x[:, 3:]).min()) > 0
    np.testing.assert_allclose(flow.inverse(step, params, z), x, atol=2e-5)
    jacobian = jax.vmap(jax.jacfwd(lambda v: flow.forward(step, params, v)[0]))(x)
    np.testing.assert_allclose(volume, np.linalg.slogdet(jacobian)[1], atol=2e-5)
