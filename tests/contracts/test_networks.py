"""Masking, gradients and shapes of every network."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmdjax.networks.alignment import AlignmentDecoder
from mmdjax.networks.encoders import Encoders, resampling_matrix
from mmdjax.networks.fusion import MulT
from mmdjax.networks.score_networks import PUBLISHED, REGISTRY, fields

B, M, T, D = 3, 3, 6, 8


@pytest.fixture(scope="module")
def latents():
    rng = np.random.default_rng(0)
    valid = np.arange(T) < np.array([6, 4, 2])[:, None, None]
    return rng.standard_normal((B, M, T, D)).astype(np.float32), np.tile(valid, (1, M, 1))


SIZES = {"width": 32, "layers": 2, "heads": 2, "mlp": 64, "time_features": 8}


@pytest.fixture(scope="module", params=REGISTRY)
def score(request):
    own = fields(request.param)
    return REGISTRY[request.param](M, T, D, **{k: v for k, v in SIZES.items() if k in own})


def run(net, params, *arguments):
    return jax.jit(net.apply)(params, *arguments)


def initial(net, *arguments):
    """Parameters that are nobody's start: gates that are zero at first would hide everything."""
    params = jax.jit(net.init)(jax.random.key(0), *arguments)
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    noise = [0.1 * jax.random.normal(k, a.shape) for k, a in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(tree, [a + n for a, n in zip(leaves, noise, strict=True)])


def score_arguments(latents):
    x, valid = latents
    ids = np.array([1, 2])
    return x[:, 0], np.full(B, 0.3, np.float32), x[:, ids], ids, valid[:, 0], valid[:, ids]


def every_gradient(params, loss):
    gradients = jax.jit(jax.grad(loss))(params)
    return {
        jax.tree_util.keystr(path): float(jnp.abs(g).max())
        for path, g in jax.tree_util.tree_leaves_with_path(gradients)
    }


@pytest.mark.parametrize(
    # MMDiT's last layer lacks what reaches no output. DiT: 9.3 printed, see its docstring.
    ("name", "millions"),
    [("score_transformer", 3.2), ("unet", 3.5), ("mmdit", 8.8 - 0.5), ("dit", 5.9)],
)
def test_a_score_network_has_the_published_size(name, millions):
    net = REGISTRY[name](modalities=3, **PUBLISHED[name])
    x = jnp.zeros((1, 48, 32))
    shapes = jax.eval_shape(
        net.init,
        jax.random.key(0),
        x,
        jnp.ones(1),
        jnp.zeros((1, 2, 48, 32)),
        np.array([1, 2]),
        jnp.ones((1, 48), bool),
        jnp.ones((1, 2, 48), bool),
    )
    count = sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))
    assert abs(count / 1e6 / millions - 1) < 0.05


def test_a_masked_condition_has_no_influence_and_no_gradient(score, latents):
    x, t, condition, ids, mask, condition_mask = score_arguments(latents)
    condition_mask = condition_mask.copy()
    condition_mask[:, 1] = False
    params = initial(score, x, t, condition, ids, mask, condition_mask)

    @jax.jit
    def run(condition):
        return score.apply(params, x, t, condition, ids, mask, condition_mask)

    hidden = condition.copy()
    hidden[:, 1] = np.nan
    with jax.debug_nans(False):
        np.testing.assert_array_equal(run(hidden), run(condition))
    gradient = jax.jit(jax.grad(lambda c: (run(c) ** 2).sum()))(jnp.asarray(condition))
    assert (gradient[:, 1] == 0).all() and (gradient[:, 0][mask] != 0).any()


def test_a_shorter_time_axis_gives_the_same_numbers(score, latents):
    x, t, condition, ids, mask, condition_mask = score_arguments(latents)
    params = initial(score, x, t, condition, ids, mask, condition_mask)
    whole = run(score, params, x, t, condition, ids, mask, condition_mask)[2:, :2]
    part = run(
        score,
        params,
        x[2:, :2],
        t[2:],
        condition[2:, :, :2],
        ids,
        mask[2:, :2],
        condition_mask[2:, :, :2],
    )
    np.testing.assert_allclose(part, whole, atol=1e-5)


def test_every_parameter_of_the_score_network_gets_a_gradient(score, latents):
    arguments = score_arguments(latents)
    params = initial(score, *arguments)
    gradients = every_gradient(params, lambda p: (score.apply(p, *arguments) ** 2).sum())
    assert all(gradients.values()), gradients


def test_a_few_steps_train_every_parameter(score, latents):
    """From the network's own start, where gates of adaLN-Zero let nothing through."""
    x, t, condition, ids, mask, condition_mask = score_arguments(latents)
    noise = np.random.default_rng(1).standard_normal(x.shape).astype(np.float32)
    arguments = (0.8 * x + 0.6 * noise, t, condition, ids, mask, condition_mask)
    optimiser = optax.adam(3e-3)

    @jax.jit
    def step(params, state):
        def loss(params):
            return (((score.apply(params, *arguments) - noise) ** 2) * mask[..., None]).mean()

        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimiser.update(gradient, state)
        return optax.apply_updates(params, updates), state, value, gradient

    params = jax.jit(score.init)(jax.random.key(0), *arguments)
    state, values, largest = optimiser.init(params), [], None
    for _ in range(20):
        params, state, value, gradient = step(params, state)
        values.append(float(value))
        size = jax.tree.map(lambda g: jnp.abs(g).max(), gradient)
        largest = size if largest is None else jax.tree.map(jnp.maximum, largest, size)
    named = {jax.tree_util.keystr(k): v for k, v in jax.tree_util.tree_leaves_with_path(largest)}
    assert all(v > 0 for v in named.values()), {k for k, v in named.items() if not v > 0}
    assert values[-1] < 0.8 * values[0]


def test_rows_without_any_condition_are_predicted(score, latents):
    x, t, condition, ids, mask, condition_mask = score_arguments(latents)
    params = initial(score, x, t, condition, ids, mask, condition_mask)
    hidden = run(score, params, x, t, condition, ids, mask, np.zeros_like(condition_mask))
    nothing = np.zeros((B, 0), int)
    without = run(score, params, x, t, condition[:, :0], nothing, mask, condition_mask[:, :0])
    assert np.isfinite(hidden).all() and np.ptp(hidden) > 0
    np.testing.assert_allclose(without, hidden, atol=1e-5)


def test_the_order_of_the_conditions_does_not_matter(score, latents):
    x, t, condition, ids, mask, condition_mask = score_arguments(latents)
    params = initial(score, x, t, condition, ids, mask, condition_mask)
    given = run(score, params, x, t, condition, ids, mask, condition_mask)
    turned = (condition[:, ::-1], ids[::-1], mask, condition_mask[:, ::-1])
    np.testing.assert_allclose(run(score, params, x, t, *turned), given, atol=1e-4)


def test_repeating_what_was_encoded_is_encoding_repeated_rows(score, latents):
    x, t, condition, ids, mask, condition_mask = score_arguments(latents)
    params = initial(score, x, t, condition, ids, mask, condition_mask)

    @jax.jit
    def encode(*rows):
        return score.apply(params, rows[0], ids, rows[1], method="encode")

    twice = encode(*(np.repeat(a, 2, axis=0) for a in (condition, condition_mask)))
    once = encode(condition, condition_mask).repeat(2)
    for a, b in zip(*map(jax.tree.leaves, (once, twice)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("outputs", [1, 5])
def test_fusion_reads_valid_frames_only_and_trains_every_parameter(latents, outputs):
    x, valid = latents
    net = MulT(layers=2, heads=2, outputs=outputs)
    params = jax.jit(net.init)(jax.random.key(0), x, valid)
    hidden = np.where(valid[..., None], x, np.nan)
    assert net.apply(params, x, valid).shape == (B, outputs)
    with jax.debug_nans(False):
        np.testing.assert_array_equal(net.apply(params, hidden, valid), net.apply(params, x, valid))
    part = net.apply(params, x[2:, :, :2], valid[2:, :, :2])
    np.testing.assert_allclose(part, net.apply(params, x, valid)[2:], atol=1e-5)
    gradients = every_gradient(params, lambda p: (net.apply(p, x, valid) ** 2).sum())
    assert all(gradients.values()), gradients


def test_alignment_decoder_starts_as_the_identity_and_keeps_to_valid_frames(latents):
    x, valid = latents[0][:, 0], latents[1][:, 0]
    net = AlignmentDecoder(channels=8, blocks=3, reduction=4)
    params = jax.jit(net.init)(jax.random.key(0), x, valid)
    np.testing.assert_allclose(net.apply(params, x, valid), np.where(valid[..., None], x, 0))
    params = jax.tree.map(lambda a: a + 0.1, params)
    hidden = np.where(valid[..., None], x, np.nan)
    with jax.debug_nans(False):
        np.testing.assert_array_equal(net.apply(params, hidden, valid), net.apply(params, x, valid))
    gradients = every_gradient(params, lambda p: (net.apply(p, x, valid) ** 2).sum())
    assert all(gradients.values()), gradients


@pytest.mark.parametrize(("source", "target"), [(5, 8), (8, 8), (20, 8), (1, 8), (8, 1)])
def test_resampling_keeps_constants_and_means(source, target):
    weights = resampling_matrix(source, target)
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-6)
    if source >= target:  # an average: the mean over time stays
        np.testing.assert_allclose(weights.mean(0), 1 / source, rtol=1e-5)


def test_encoders_are_linear_and_blind_to_invalid_frames(rng):
    lengths = {"a": 9, "b": 8}
    valid = {m: np.arange(t) < np.array([t, 3])[:, None] for m, t in lengths.items()}
    x, y = (
        {m: rng.standard_normal((2, t, 4)).astype(np.float32) for m, t in lengths.items()}
        for _ in range(2)
    )
    net = Encoders(("a", "b"), frames=6, channels=5)
    params = jax.jit(net.init)(jax.random.key(0), x, valid)

    def run(features):
        return net.apply(params, features, valid)[0]

    np.testing.assert_allclose(run({m: x[m] + 2 * y[m] for m in x}), run(x) + 2 * run(y), atol=1e-4)
    hidden = {m: np.where(valid[m][..., None], x[m], np.nan) for m in x}
    with jax.debug_nans(False):
        np.testing.assert_array_equal(run(hidden), run(x))
