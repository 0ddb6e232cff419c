"""GCNet: its graphs, its order, and that it can learn."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mmdjax.data.dataset import Dataset
from mmdjax.methods.gcnet import GCNet
from mmdjax.methods.graph.gcnet_network import Network, numbered, related
from mmdjax.methods.method import phase_keys
from mmdjax.runtime.progress import Reporter
from tests.contracts.test_methods import config_of, dataset_of

STEPS = 200
NETWORK = Network(2, (4, 3), 2, 8, 6, 5, 2, 0.0)
APPLY = jax.jit(NETWORK.apply)


def conversations(rng, lengths):
    count = max(lengths)
    x = tuple(rng.normal(size=(len(lengths), count, c)).astype(np.float32) for c in (4, 3))
    observed = rng.random((len(lengths), count, 2)) < 0.7
    speaker = rng.integers(0, 2, (len(lengths), count))
    return x, observed, speaker, np.arange(count) < np.array(lengths)[:, None]


def test_utterances_are_joined_within_the_window_by_order_and_speakers():
    speaker, valid = np.array([[0, 1, 0, 0, 1, 0]]), np.array([[True] * 5 + [False]])
    found = {k: np.asarray(v) for k, v in related(speaker, valid, 2, 2).items()}
    assert {k: v.shape for k, v in found.items()} == {
        "temporal": (3, 1, 6, 6),
        "speaker": (4, 1, 6, 6),
    }
    for relations in found.values():  # each pair in one relation, and the same pairs in both
        near = relations.sum(0)[0]
        for i in range(6):
            for j in range(6):
                assert near[i, j] == (abs(i - j) <= 2 and i < 5 and j < 5)
    past, _, future = found["temporal"][:, 0]
    assert past[2].tolist() == [True, True, False, False, False, False]
    assert future[2].tolist() == [False, False, False, True, True, False]
    of_both = found["speaker"][2 * speaker[0, 1] + speaker[0, 2], 0]  # from speaker 1 to 0
    assert of_both[1].tolist() == [True, False, True, True, False, False]


def test_speakers_are_numbered_as_they_first_speak_whatever_they_are_called():
    speaker = np.array([[7, 3, 7, 9, 3], [2, 2, 1, 0, 0]])
    valid = np.array([[True] * 5, [True, True, True, False, False]])
    got = np.asarray(numbered(speaker, valid))
    assert got[0].tolist() == [0, 1, 0, 2, 1] and got[1, :3].tolist() == [0, 0, 1]


def test_speakers_beyond_those_of_training_share_the_last_one_s_weights(rng):
    x, observed, speaker, valid = conversations(rng, [6, 3])
    params = jax.jit(NETWORK.init)(jax.random.key(0), x, observed, speaker, valid)
    later = np.where(speaker == 1, 4, speaker)
    for a, b in zip(
        APPLY(params, x, observed, later, valid),
        APPLY(params, x, observed, speaker, valid),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


def test_permuted_dialogues_give_permuted_answers(rng):
    given = conversations(rng, [6, 3, 5, 1])
    params = jax.jit(NETWORK.init)(jax.random.key(0), *given)
    order = np.array([2, 0, 3, 1])
    expected = APPLY(params, *given)
    got = APPLY(params, *jax.tree.map(lambda a: a[order], given))
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b[order], atol=1e-5)


def test_utterances_that_do_not_exist_change_nothing(rng):
    x, observed, speaker, valid = conversations(rng, [6, 3])
    params = jax.jit(NETWORK.init)(jax.random.key(0), x, observed, speaker, valid)
    other = tuple(np.where(valid[..., None], v, 9.0) for v in x)
    longer = jax.tree.map(
        lambda a: np.concatenate([a, np.ones_like(a[:, :2])], 1), (other, observed, speaker)
    )
    more = np.concatenate([valid, np.zeros((2, 2), bool)], 1)
    expected = APPLY(params, x, observed, speaker, valid)
    got = APPLY(params, *longer, more)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a[:, :6][valid], b[valid], atol=1e-5)


def test_conversations_are_learned_by_heart():
    config = config_of("gcnet")
    options = dataclasses.replace(config.gcnet, width=32, convolution=16, hidden=32, dropout=0.0)
    made = dataset_of(config.data, config.task)
    train = made.splits["train"]
    few = Dataset(dict.fromkeys(made.splits, train), made.task, "few")
    method = GCNet(dataclasses.replace(config, gcnet=options), few, Reporter())
    (phase,) = method.phases
    source, _ = phase.load({}, 0, None)
    rows = source.rows["row"]
    data = {"row": jnp.asarray(rows)} | source.common
    optimiser, weight = optax.adam(optax.cosine_decay_schedule(5e-3, STEPS)), jnp.ones(len(rows))
    start = phase.init(phase_keys(0, phase.name)[0], {})

    def step(carry, key):
        params, state = carry
        frames = method.system.grouped.lengths[-1]
        gradient = jax.grad(phase.loss)(params, data, weight, key, frames)
        change, state = optimiser.update(gradient, state)
        return (optax.apply_updates(params, change), state), None

    keys = jax.random.split(jax.random.key(0), STEPS)
    carry = (start, optimiser.init(start))
    params = jax.jit(lambda carry: jax.lax.scan(step, carry, keys)[0][0])(carry)
    before, after = (method.error(p, *method.system.everything("train")) for p in (start, params))
    assert after < 0.2 * before
