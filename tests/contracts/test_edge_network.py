"""The network over pairs of utterances: permutations, padding, symmetry; and D_X at its start."""

import jax
import numpy as np

from mmdjax.networks.edge_network import EdgeNetwork
from mmdjax.networks.refine import Refine

B, N, F = 2, 5, 4
NETWORK = EdgeNetwork(3, width=8, layers=2, time_features=8)


def inputs(rng):
    tokens = rng.standard_normal((B, N, N, F)).astype(np.float32)
    tokens = (tokens + tokens.swapaxes(1, 2)) / 2
    return tokens, np.array([0.2, 0.7], np.float32), np.ones((B, N), bool)


def parameters(module, *arguments):
    """Random where the module's own are zero, so that nothing is hidden by them."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), *arguments)
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda a: 0.3 * rng.standard_normal(a.shape).astype(np.float32), shapes)


def test_permuting_utterances_permutes_pairs_and_the_result_is_symmetric(rng):
    tokens, t, valid = inputs(rng)
    params, order = parameters(NETWORK, tokens, t, valid), rng.permutation(N)
    straight = NETWORK.apply(params, tokens, t, valid)
    turned = NETWORK.apply(params, tokens[:, order][:, :, order], t, valid)
    np.testing.assert_allclose(turned, straight[:, order][:, :, order], atol=1e-4)
    np.testing.assert_allclose(straight, straight.swapaxes(1, 2), atol=1e-5)
    assert np.abs(straight).max() > 0.1


def test_padding_changes_nothing_and_may_hold_nan(rng):
    tokens, t, valid = inputs(rng)
    params, more = parameters(NETWORK, tokens, t, valid), (0, 3)
    long = np.pad(tokens, [(0, 0), more, more, (0, 0)], constant_values=np.nan)
    found = NETWORK.apply(params, long, t, np.pad(valid, [(0, 0), more]))
    np.testing.assert_allclose(found[:, :N, :N], NETWORK.apply(params, tokens, t, valid), atol=1e-5)
    np.testing.assert_array_equal(found[:, N:], 0)
    np.testing.assert_array_equal(found[:, :, N:], 0)


def test_third_utterances_matter(rng):
    """What (i, j) and (j, k) hold reaches (i, k), in one layer nothing else."""
    tokens, t, valid = inputs(rng)
    network = NETWORK.clone(layers=1)
    params = parameters(network, tokens, t, valid)
    of_pair = lambda x: network.apply(params, x, t, valid)[0, 0, 1].sum()  # noqa: E731
    gradient = np.abs(jax.grad(of_pair)(tokens)[0]).max(-1)
    assert gradient[0, 2] > 0 and gradient[2, 1] > 0 and gradient[2, 3] == 0


def test_reconstruction_starts_as_the_identity(rng):
    drawn, tokens = rng.standard_normal((2, N, 6)), rng.standard_normal((2, N, 3))
    module = Refine(6, width=8)
    params = module.init(jax.random.key(0), drawn, tokens)
    np.testing.assert_allclose(module.apply(params, drawn, tokens), drawn, rtol=1e-6)
