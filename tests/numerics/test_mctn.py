"""MCTN: which chain answers, what its losses count, and the frames it reads."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdjax.data.dataset import segments
from mmdjax.methods import mctn
from mmdjax.methods.vector.served import VectorRoute
from mmdjax.tasks import Regression

COLUMNS = (4, 2, 6)


@pytest.fixture
def x(rng):
    return tuple(rng.normal(size=(5, 3, c)).astype(np.float32) for c in COLUMNS)


@pytest.fixture
def network():
    return mctn.Network(1, 3, 4)


def ranked(network, x, errors):
    params = network.init(jax.random.key(0), x, np.ones((5, 3), bool))
    return {**params, "ranking": {"errors": jnp.asarray(errors, jnp.float32)}}


def test_the_best_observed_source_answers(network, x):
    variables = ranked(network, x, (0.3, 0.1, 0.2))
    observed = np.array([[1, 1, 1], [1, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]], bool)
    outputs, made = network.apply(variables, x, observed)
    each, chains = network.apply(variables, x, observed, method="everything")
    best = [1, 2, 0, 1, 2]
    for row, source in enumerate(best):
        np.testing.assert_allclose(outputs[row], each[source, row], rtol=1e-5)
        for k in range(3):
            np.testing.assert_allclose(
                made[row, (source + k) % 3], chains[source, row, k], rtol=1e-5
            )


def test_a_chain_reads_its_source_alone(network, x):
    variables = ranked(network, x, (0.3, 0.1, 0.2))
    blind = (x[0], x[1] + 1, x[2] - 1)
    observed = np.ones((5, 3), bool)
    one, two = (network.apply(variables, v, observed, method="everything") for v in (x, blind))
    np.testing.assert_array_equal(one[0][0], two[0][0])
    assert not np.allclose(one[0][1], two[0][1])


def test_losses_count_what_is_there_and_own_columns(network, x):
    params = network.init(jax.random.key(0), x, np.ones((5, 3), bool))
    loss = mctn.loss_of(network, Regression(-3, 3), 0.5, 0.25)
    present = np.array([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 1, 1], [1, 0, 0]], bool)
    label = np.linspace(-2, 2, 5).astype(np.float32)
    data = {"x": x, "present": present, "label": label}
    got = loss(params, data, np.ones(5, np.float32), jax.random.key(0), 1)
    seen = tuple(np.where(present[:, m, None, None], v, 0) for m, v in enumerate(x))
    outputs, made = network.apply(params, seen, present, method="everything")
    expected = 0.0
    for s in range(3):
        for row in np.flatnonzero(present[:, s]):
            expected += abs(float(outputs[s, row, 0]) - label[row]) / 5
            for k in range(3):
                m = (s + k) % 3
                if present[row, m]:
                    error = ((made[s, row, k, :, : COLUMNS[m]] - x[m][row]) ** 2).mean()
                    expected += (0.5 if k else 0.25) * float(error) / 5
    assert float(got) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("module", [np, jnp])
def test_segments_are_means_over_equal_parts(module):
    x = np.arange(12, dtype=np.float32).reshape(1, 6, 2).repeat(4, 0)
    known = np.ones((4, 6), bool)
    known[1, 2:4] = False
    length = np.array([6, 6, 2, 0])
    got, some = segments(*(module.asarray(a) for a in (x, known, length)), 3)
    np.testing.assert_allclose(got[0], [x[0, i : i + 2].mean(0) for i in (0, 2, 4)])
    assert some[1].tolist() == [True, False, True]
    np.testing.assert_array_equal(got[1, 1], 0.0)
    np.testing.assert_allclose(got[2], x[2, [0, 0, 1]])  # repeated
    whole, _ = segments(*(module.asarray(a) for a in (x, known, length)), 1)
    np.testing.assert_allclose(whole[1, 0], x[1, known[1]].mean(0))


def test_a_faithful_chain_writes_nothing_beyond_one(x):
    faithful = mctn.Network(1, 3, 4, bounded=True)
    observed = np.ones((5, 3), bool)
    params = faithful.init(jax.random.key(0), x, observed)
    large = tuple(50 * v for v in x)
    (_, bounded), (_, free) = (
        network.apply(params, large, observed, method="everything")
        for network in (faithful, mctn.Network(1, 3, 4))
    )
    assert float(jnp.abs(bounded).max()) <= 1
    np.testing.assert_allclose(jnp.tanh(free[:, :, 2]), bounded[:, :, 2], atol=1e-5)


def test_frames_missing_at_the_end_are_no_part_of_a_served_utterance(rng):
    """As in training, where they are not told from padding."""
    x = rng.normal(size=(2, 10, 4)).astype(np.float32)
    x[0, 6:] = np.nan
    with jax.debug_nans(False):
        given = {"a": jnp.asarray(x), "b": jnp.asarray(x)}
    one = {m: np.ones(4, np.float32) for m in given}
    parameters = {"mean": {m: 0 * v for m, v in one.items()}, "scale": one}
    route = VectorRoute(("a", "b"), Regression(-3, 3), mctn.Network(1, 2, 4), 3)
    said = {m: jnp.full(2, -1) for m in given}
    with jax.debug_nans(False):
        (vectors, known, _), *_ = route.encode(parameters, given, said, {})
    exists = ~np.isnan(x).any(-1)
    expected, _ = segments(x, exists, np.array([6, 10]), 3)
    np.testing.assert_allclose(vectors[0], expected, atol=1e-6)
    assert bool(known.all())
