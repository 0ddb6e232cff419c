"""The law of synthetic conversations: its draws, and its exact answers about what is missing."""

import numpy as np
import pytest

from mmdjax.data.sources import synthetic_conversations as data
from mmdjax.data.sources.synthetic_conversations import CHANNELS, Law, kernel, split

LAW = Law(0)


def speakers(n):
    return np.arange(n), np.arange(n) % 3 % 2


def joined(features):
    return np.concatenate([features[name] for name in CHANNELS], axis=-1)


def test_draws_have_unit_variances_and_the_kernels_correlations(rng):
    position, speaker = speakers(6)
    x = np.stack([joined(LAW.conversation(position, speaker, rng)[0]) for _ in range(4000)])
    np.testing.assert_allclose(x.std(0), 1, atol=0.06)
    k = kernel(position, speaker)
    # Of one channel at two utterances: (1 - OWN + OWN SMOOTH) K.
    found = np.einsum("sic,sjc->ij", x, x) / (x.shape[0] * x.shape[2])
    expected = (1 - data.OWN + data.OWN * data.SMOOTH) * k
    np.fill_diagonal(expected, 1)
    np.testing.assert_allclose(found, expected, atol=0.03)


def test_neighbours_and_turns_of_one_speaker_are_alike():
    k = kernel(np.arange(12.0), np.array([0, 0, 1, 0, 1, 1, 0, 0, 1, 1, 0, 1]))
    assert k[0, 1] > k[0, 2] > k[0, 11] > 0 and k[0, 1] > 0.5
    assert np.linalg.eigvalsh(k).min() > 0


@pytest.mark.parametrize("graph", [True, False])
def test_the_posterior_has_the_errors_that_it_says(rng, graph):
    """Mean squared error of the posterior mean equals its variance with the graph; by itself an
    utterance says less."""
    position, speaker = speakers(8)
    observed = rng.random((8, 3)) < 0.6
    observed[:, 0] |= ~observed.any(1)
    errors, labels = [], []
    for _ in range(1500):
        features, label = LAW.conversation(position, speaker, rng)
        found = LAW.posterior(position, speaker, features, observed, graph)
        errors.append((joined(found.mean) - joined(features)) ** 2)
        labels.append((found.label - label) ** 2)
    variance = joined(found.variance)
    hidden = variance > 0
    np.testing.assert_array_equal(hidden, ~np.repeat(observed, list(CHANNELS.values()), axis=1))
    np.testing.assert_allclose(
        np.mean(errors, 0)[hidden].mean(), variance[hidden].mean(), rtol=0.03
    )
    np.testing.assert_allclose(np.mean(labels), found.label_variance.mean(), rtol=0.05)
    np.testing.assert_array_equal(np.mean(errors, 0)[~hidden], 0)


def test_the_graph_is_worth_something(rng):
    position, speaker = speakers(16)
    features, _ = LAW.conversation(position, speaker, rng)
    observed = np.ones((16, 3), bool)
    observed[::2, 1:] = False
    aware, blind = (
        LAW.posterior(position, speaker, features, observed, graph) for graph in (True, False)
    )
    assert aware.variance["vision"][::2].mean() < 0.9 * blind.variance["vision"][::2].mean()
    assert (aware.label_variance < blind.label_variance).all()


def test_hidden_values_are_never_read(rng):
    position, speaker = speakers(7)
    features, _ = LAW.conversation(position, speaker, rng)
    observed = np.ones((7, 3), bool)
    observed[2:5, 1] = False
    spoiled = {name: x.copy() for name, x in features.items()}
    spoiled["acoustic"][2:5] = np.nan
    first, second = (LAW.posterior(position, speaker, x, observed) for x in (features, spoiled))
    np.testing.assert_array_equal(joined(first.mean), joined(second.mean))
    np.testing.assert_array_equal(first.label, second.label)


def test_splits_are_conversations_of_their_own_and_the_same_each_time():
    first, second = data.read(5, 2, 3, 1), data.read(5, 2, 3, 1)
    for name, part in first.items():
        np.testing.assert_array_equal(part.label, second[name].label)
        assert np.abs(part.label).max() <= 3
        lengths = np.unique(part.talk.conversation, return_counts=True)[1]
        assert min(lengths) >= data.UTTERANCES[0] and max(lengths) <= data.UTTERANCES[1]
    counts = [len(np.unique(part.talk.conversation)) for part in first.values()]
    assert counts == [5, 2, 3]
    assert not set(first["train"].id) & set(first["test"].id)


def test_channels_are_split_in_order():
    parts = split(np.arange(20.0)[None])
    assert [p[0, 0] for p in parts.values()] == [0, 8, 14]
