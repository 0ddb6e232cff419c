"""The network over utterances and eigenvalues: permutations, padding, and who sees whom."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdjax.errors import UserError
from mmdjax.networks.graph_transformer import SEES, GraphTransformer

B, N, F = 2, 7, 5


def network(sees="graph", **sizes):
    sizes = {"width": 16, "layers": 2, "heads": 2, "mlp": 32, "time_features": 8} | sizes
    return GraphTransformer(3, sees, **sizes)


def inputs(rng, n=N):
    tokens = rng.standard_normal((B, n, F)).astype(np.float32)
    weights = rng.random((B, n, n)).astype(np.float32)
    weights = np.where(weights < 0.5, 0, weights)
    return tokens, np.array([0.2, 0.7], np.float32), np.ones((B, n), bool), weights


def parameters(module, *arguments):
    """Random where the module's own are zero, so that nothing is hidden by them."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), *arguments)
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda a: 0.3 * rng.standard_normal(a.shape).astype(np.float32), shapes)


@pytest.mark.parametrize("sees", SEES)
def test_permuting_tokens_permutes_the_result(sees, rng):
    tokens, t, valid, weights = inputs(rng)
    module, order = network(sees), rng.permutation(N)
    params = parameters(module, tokens, t, valid, weights)
    valid[1, 4] = False
    straight = module.apply(params, tokens, t, valid, weights)
    permuted = weights[:, order][:, :, order]
    turned = module.apply(params, tokens[:, order], t, valid[:, order], permuted)
    np.testing.assert_allclose(turned, straight[:, order], atol=1e-5)
    assert np.abs(straight).max() > 0.1


@pytest.mark.parametrize("sees", SEES)
def test_padding_changes_nothing_and_may_hold_nan(sees, rng):
    tokens, t, valid, weights = inputs(rng)
    module = network(sees)
    params = parameters(module, tokens, t, valid, weights)
    more = [(0, 0), (0, 3)]
    long = module.apply(
        params,
        np.pad(tokens, [*more, (0, 0)], constant_values=np.nan),
        t,
        np.pad(valid, more),
        np.pad(weights, [*more, (0, 3)]),
    )
    short = module.apply(params, tokens, t, valid, weights)
    np.testing.assert_allclose(long[:, :N], short, atol=1e-5)
    np.testing.assert_array_equal(long[:, N:], 0)


def test_alone_means_alone_and_the_graph_matters(rng):
    """Gradient of one token's result to the others' inputs."""
    tokens, t, valid, weights = inputs(rng)

    def influence(sees):
        module = network(sees)
        params = parameters(module, tokens, t, valid, weights)
        apply = lambda x: module.apply(params, x, t, valid, weights)[0, 0].sum()  # noqa: E731
        return np.abs(jax.grad(apply)(tokens)[0]).max(-1)

    assert (influence("alone")[1:] == 0).all() and influence("alone")[0] > 0
    assert (influence("all") > 0).all()
    module = network("graph")
    params = parameters(module, tokens, t, valid, weights)
    other = module.apply(params, tokens, t, valid, np.where(weights > 0, 1, 0))
    assert np.abs(other - module.apply(params, tokens, t, valid, weights)).max() > 1e-3


def test_drawn_graphs_are_seen_once_their_gates_open(rng):
    tokens, t, valid, weights = inputs(rng)
    edges = rng.standard_normal((B, 2, N, N)).astype(np.float32)
    module, order = network(), rng.permutation(N)
    params = parameters(module, tokens, t, valid, weights, edges)

    def of(params, edges, order):
        turn = lambda a: a[..., order, :][..., order]  # noqa: E731
        about = (tokens[:, order], t, valid, turn(weights), turn(edges))
        return module.apply(params, *about)

    straight = of(params, edges, np.arange(N))
    np.testing.assert_allclose(of(params, edges, order), straight[:, order], atol=1e-5)
    assert np.abs(of(params, -edges, np.arange(N)) - straight).max() > 1e-3
    gates = jax.tree.map(np.zeros_like, params["params"]["gates"])
    closed = {"params": params["params"] | {"gates": gates}}
    np.testing.assert_array_equal(of(closed, edges, order), of(closed, -edges, order))


def test_every_parameter_is_trained(rng):
    """Some gates start at zero and let others' gradients through after the first steps only."""
    tokens, t, valid, weights = inputs(rng)
    module = network()
    params = module.init(jax.random.key(0), tokens, t, valid, weights)
    target = rng.standard_normal((B, N, 3)).astype(np.float32)

    @jax.jit
    def step(params):
        loss = lambda p: jnp.mean((module.apply(p, tokens, t, valid, weights) - target) ** 2)  # noqa: E731
        return jax.tree.map(lambda p, g: p - 0.1 * g, params, jax.grad(loss)(params))

    first = params
    for _ in range(8):
        params = step(params)
    moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), params, first)
    # A bias of keys moves all logits of a query alike.
    still = {jax.tree_util.keystr(p) for p, v in jax.tree.leaves_with_path(moved) if v < 1e-7}
    assert all("'key']['bias" in name for name in still), still


def test_an_unknown_view_is_refused(rng):
    with pytest.raises(UserError, match="allowed: graph, all, alone"):
        network("some").init(jax.random.key(0), *inputs(rng))
