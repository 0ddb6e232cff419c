"""Methods of utterance vectors: what their parts compute, and that they can learn."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmdjax.data.dataset import Dataset
from mmdjax.methods import shaspec
from mmdjax.methods.cra import Network
from mmdjax.methods.method import phase_keys, registry
from mmdjax.methods.vector.base import VectorMethod, unmet
from mmdjax.methods.vector.networks import Encoders, Head
from mmdjax.runtime.progress import Reporter
from tests.contracts.test_methods import config_of, dataset_of

VECTORS = tuple(n for n, cls in registry().items() if issubclass(cls, VectorMethod))
ROWS, STEPS = 32, 600


@functools.cache
def few() -> Dataset:
    """The first training utterances as every split."""
    config = config_of("cra")
    made = dataset_of(config.data, config.task)
    train = made.splits["train"].at(np.arange(ROWS))
    return Dataset(dict.fromkeys(made.splits, train), made.task, "few")


def fitted(method, phase, params: dict) -> dict:
    """The parameters of a phase after some steps on all rows."""
    source, _ = phase.load(params, 0, None)
    data = {k: jax.tree.map(jnp.asarray, v) for k, v in source.rows.items()} | source.common
    start = phase.init(phase_keys(0, phase.name)[0], params)
    optimiser, weight = optax.adam(optax.cosine_decay_schedule(3e-3, STEPS)), jnp.ones(ROWS)

    def step(carry, key):
        params, state = carry
        gradient = jax.grad(phase.loss)(params, data, weight, key, phase.buckets[-1])
        change, state = optimiser.update(gradient, state)
        return (optax.apply_updates(params, change), state), None

    keys = jax.random.split(jax.random.key(0), STEPS)
    carry = (start, optimiser.init(start))
    return jax.jit(lambda carry: jax.lax.scan(step, carry, keys)[0][0])(carry)


@pytest.mark.parametrize("name", VECTORS)
def test_thirty_two_utterances_are_learned_by_heart(name):
    config = config_of(name)
    options = {"width": 64, "frames": 2, "dropout": 0.0, "outputs": ROWS}
    values = {f: v for f, v in options.items() if hasattr(getattr(config, name), f)}
    group = dataclasses.replace(getattr(config, name), **values)
    method = registry()[name](dataclasses.replace(config, **{name: group}), few(), Reporter())
    method.conditions = ((True,) * len(method.modalities),)
    params: dict = {}
    for phase in method.phases:
        params[phase.name] = fitted(method, phase, params)
    whole = few().splits["valid"].present[None]
    error = method.error(method.network, method.of_network(params), whole)
    label = few().splits["valid"].label
    assert error < 0.1 * np.abs(label - label.mean()).mean()


def vectors(rng, rows: int = 5):
    return tuple(rng.normal(size=(rows, c)).astype(np.float32) for c in (4, 3, 6))


def test_an_untrained_cascade_of_cra_is_zero_fill(rng):
    x, observed = vectors(rng), rng.random((5, 3)) < 0.6
    network = Network(2, 8, 2, 0.5)
    params = network.init(jax.random.key(0), x, observed)
    outputs, rebuilt = network.apply(params, x, observed)
    parts = params["params"]
    filled = tuple(np.where(observed[:, [m]], v, 0.0) for m, v in enumerate(x))
    h = Encoders(8, 0.5).apply({"params": parts["encoders"]}, filled, np.ones_like(observed))
    expected = Head(2, 8, 0.5).apply({"params": parts["head"]}, h.reshape(5, -1))
    np.testing.assert_allclose(outputs, expected, atol=1e-6)
    assert rebuilt.shape == (5, 3, 6)
    np.testing.assert_array_equal(rebuilt[:, 1, 3:], 0.0)


def test_errors_of_rebuilt_vectors_count_hidden_ones_alone(rng):
    x = vectors(rng)
    rebuilt = np.zeros((5, 3, 6), np.float32)
    hidden = np.zeros((5, 3), bool)
    hidden[0, 1] = hidden[1] = True
    got = unmet(x, rebuilt, hidden)
    assert got[2:].tolist() == [0.0] * 3
    np.testing.assert_allclose(got[0], (x[1][0] ** 2).mean(), rtol=1e-6)
    np.testing.assert_allclose(got[1], sum((v[1] ** 2).mean() for v in x), rtol=1e-6)


def test_shaspec_puts_the_mean_of_shared_features_where_a_modality_is_missing(rng):
    x = vectors(rng)
    observed = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 1], [0, 1, 1], [0, 0, 1]], bool)
    network = shaspec.Network(2, 3, 8, 0.5)
    params = network.init(jax.random.key(0), x, observed)
    run = functools.partial(network.apply, params, method="everything")
    _, fused, common, logits = run(x, observed)
    np.testing.assert_allclose(fused[0, 2], (common[0, 0] + common[0, 1]) / 2, atol=1e-6)
    np.testing.assert_allclose(fused[1, 1], common[1, 0], atol=1e-6)
    assert not np.allclose(fused[2, 0], common[2, 0])  # the residual of an observed one
    blind = tuple(np.where(observed[:, [m]], v, 7.0) for m, v in enumerate(x))
    for of in (lambda r: shaspec.apart(r[2], observed), lambda r: shaspec.misnamed(r[3], observed)):
        np.testing.assert_array_equal(of(run(x, observed)), of(run(blind, observed)))
    distance = np.abs(common[3, 1] - common[3, 2]).mean()
    apart = shaspec.apart(common, observed)
    np.testing.assert_allclose(apart[3], distance, rtol=1e-6)
    np.testing.assert_array_equal(apart[np.array([1, 4])], 0.0)
    np.testing.assert_allclose(
        shaspec.misnamed(logits, observed)[4], -jax.nn.log_softmax(logits[4, 2])[2], rtol=1e-6
    )
