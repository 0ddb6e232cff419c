"""Features and graphs drawn together: what may not matter, and what is given back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdjax.diffusion import time_grid
from mmdjax.errors import UserError
from mmdjax.graphs.conversation import BASES
from mmdjax.methods.graph import states as graph_states
from mmdjax.methods.graph.diffusion import (
    draw,
    features_noise,
    graph_noise,
    score_losses,
    shown,
)
from mmdjax.methods.graph.states import known_graphs, shortened
from tests.numerics.small_graphs import KINDS, SCALE, VP, M, conversations, networks


@KINDS
@pytest.mark.parametrize("joint", [True, False])
def test_the_network_of_graphs_sees_the_features_of_a_joint_law_alone(kind, joint, rng):
    position, speaker, valid, x, observed = conversations(rng)
    modules, params = networks(rng, kind, x.shape[1], joint)
    graphs = known_graphs(position, speaker, valid)
    given = shown(modules.state, graphs, x, observed, SCALE)
    noise_fn = graph_noise(modules, params["graph"], graphs, given)
    state = jnp.full((*valid.shape, modules.state.columns(x.shape[1], M)), 0.2)
    once, again = (noise_fn(a, state, jnp.full(len(x), 0.5)) for a in (x, 2 * x))
    assert np.array_equal(once, again) == (not joint)


def drawn(kind, arguments):
    modules, params = networks(np.random.default_rng(0), kind, 2)
    grid = time_grid("log_snr", VP, 4)

    @jax.jit
    def of(position, speaker, valid, x, observed):
        graphs = known_graphs(position, speaker, valid)
        given = shown(modules.state, graphs, x, observed, SCALE)
        keys = jax.random.split(jax.random.key(0), len(x))
        return draw(modules, params, graphs, given, keys, grid, "euler_maruyama")[:2]

    return of(*arguments)


def lengthened(arguments, more=3):
    """With padding behind, and NaN wherever nothing may be read."""
    position, speaker, valid, x, observed = arguments
    spoiled = np.where(observed[..., None], x, np.nan)
    longer = [
        np.pad(a, [(0, 0), (0, more)] + [(0, 0)] * (a.ndim - 2))
        for a in (position, speaker, valid, observed)
    ]
    x = np.pad(spoiled, [(0, 0), (0, more), (0, 0), (0, 0)], constant_values=np.nan)
    return (*longer[:3], x, longer[3])


def test_padding_and_hidden_values_change_no_draw(rng):
    arguments = conversations(rng)
    first, n = drawn("spectral", arguments), arguments[3].shape[1]
    second = drawn("spectral", lengthened(arguments))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(b[:, :n], a, atol=1e-4)
        np.testing.assert_array_equal(b[:, n:], 0)


def test_hidden_values_change_no_draw_of_whole_matrices(rng):
    """Padding does: noise of pairs has no place that is the same for every number of utterances."""
    arguments = conversations(rng)
    for a, b in zip(
        drawn("dense", arguments), drawn("dense", lengthened(arguments, 0)), strict=True
    ):
        np.testing.assert_array_equal(a, b)


@KINDS
def test_padding_changes_no_noise_prediction_and_no_loss(kind, rng):
    arguments, n = conversations(rng), 5
    modules, params = networks(rng, kind, n)

    def predicted(position, speaker, valid, x, observed):
        graphs = known_graphs(position, speaker, valid)
        given = shown(modules.state, graphs, x, observed, SCALE)
        call = features_noise(modules, params["features"], graphs, given)
        x = np.where(valid[..., None, None] & ~np.isnan(x), x, 0.3).astype(np.float32)
        state = jnp.full((2, n, modules.state.columns(n, M)), 0.2)
        state = modules.state.resized(state, valid.shape[1])
        noise = call(x, state, jnp.full(len(x), 0.5))
        return np.where(given.drawn[..., None], noise, 0)

    position, speaker, valid, x, observed = arguments
    same = (position, speaker, valid, np.where(observed[..., None], x, 0.3), observed)
    straight, padded = predicted(*same), predicted(*lengthened(arguments))
    np.testing.assert_allclose(padded[:, :n], straight, atol=1e-4)
    np.testing.assert_array_equal(padded[:, n:], 0)
    assert np.isfinite(padded).all() and np.abs(straight).max() > 0.01


@KINDS
def test_what_is_observed_is_given_back_as_it_is(kind, rng):
    arguments = conversations(rng)
    position, speaker, valid, x, observed = arguments
    features, drawn_graphs = drawn(kind, arguments)
    np.testing.assert_array_equal(features[np.asarray(observed)], x[np.asarray(observed)])
    graphs, state = known_graphs(position, speaker, valid), graph_states.REGISTRY[kind]
    complete = state.of(graphs, x, np.ones_like(observed)) / SCALE
    of = lambda values: np.asarray(state.matrices(graphs, values))  # noqa: E731
    np.testing.assert_allclose(of(drawn_graphs)[0, 1], of(complete)[0, 1], atol=1e-3)
    assert np.abs(of(drawn_graphs)[1] - of(complete)[1]).max() > 1e-3


def test_permuting_utterances_permutes_the_noise(rng):
    position, speaker, valid, x, observed = conversations(rng)
    order = rng.permutation(x.shape[1])
    modules, params = networks(rng, "spectral", len(order))
    spectra = rng.standard_normal((len(x), len(order), M)).astype(np.float32)

    def noise(order):
        of = known_graphs(*(a[:, order] for a in (position, speaker, valid)))
        given = shown(modules.state, of, x[:, order], observed[:, order], SCALE)
        call = features_noise(modules, params["features"], of, given)
        return call(x[:, order], spectra, jnp.full(len(x), 0.5)), given.partial

    straight, turned = noise(np.arange(len(order))), noise(order)
    np.testing.assert_allclose(turned[0], straight[0][:, order], atol=1e-3)
    # Spectra belong to eigenvalues, which do not know the order of utterances.
    np.testing.assert_allclose(turned[1], straight[1], atol=1e-3)


@KINDS
def test_a_conversation_of_one_utterance_is_drawn(kind, rng):
    position, speaker, valid, x, observed = (a[:, :1] for a in conversations(rng))
    observed = np.tile(np.array([True, False, False]), (2, 1, 1))
    features, graphs = drawn(kind, (position, speaker, valid, x, observed))
    np.testing.assert_array_equal(features[:, :, 0], x[:, :, 0])
    assert np.isfinite(features).all() and np.isfinite(graphs).all()


@KINDS
def test_a_state_is_cut_and_widened_without_loss(kind, rng):
    position, speaker, valid, x, _ = conversations(rng)
    wide = known_graphs(*(np.pad(a, [(0, 0), (0, 3)]) for a in (position, speaker, valid)))
    state, n = graph_states.REGISTRY[kind], x.shape[1]
    short = shortened(wide, n)
    values = state.of(short, x, np.ones(x.shape[:3], bool))
    back = state.resized(state.resized(values, n + 3), n)
    np.testing.assert_array_equal(back, values)
    assert values.shape == (*valid.shape, state.columns(n, M))
    matrices = state.matrices(wide, state.resized(values, n + 3))
    np.testing.assert_allclose(matrices[:, :, :n, :n], state.matrices(short, values), atol=1e-5)
    np.testing.assert_array_equal(matrices[:, :, n:], 0)


def test_whole_matrices_hold_the_graph_itself_and_spectra_most_of_it(rng):
    position, speaker, valid, x, observed = conversations(rng)
    graphs, everything = known_graphs(position, speaker, valid), np.ones_like(observed)
    own = np.asarray(graph_states.adjacencies(graphs, x, everything))

    def rebuilt(kind):
        state = graph_states.REGISTRY[kind]
        values = state.of(graphs, x, everything)
        return np.asarray(state.origin(graphs)[:, None] + state.matrices(graphs, values))

    np.testing.assert_allclose(rebuilt("dense"), own, atol=1e-6)
    assert ((rebuilt("spectral") - own) ** 2).sum() < 0.1 * (own**2).sum()


@pytest.mark.parametrize("name", BASES)
def test_spectra_in_any_basis_tell_more_of_a_graph_than_the_structure(name, rng):
    position, speaker, valid, x = conversations(rng)[:4]
    padded = (np.pad(a, [(0, 0), (0, 2)]) for a in (position, speaker, valid))
    graphs, state = known_graphs(*padded, eigenvectors=name), graph_states.REGISTRY["spectral"]
    x = np.pad(x, [(0, 0), (0, 2), (0, 0), (0, 0)], constant_values=np.nan)
    seen = np.broadcast_to(np.asarray(graphs.valid)[..., None], x.shape[:3])
    own = np.asarray(graph_states.adjacencies(graphs, x, seen))
    values = state.of(graphs, x, seen)
    found = np.asarray(state.origin(graphs)[:, None] + state.matrices(graphs, values))
    away = own - np.asarray(state.origin(graphs))[:, None]
    assert ((found - own) ** 2).sum() < 0.9 * (away**2).sum()
    np.testing.assert_array_equal(found[:, :, 5:], 0)
    with pytest.raises(UserError, match="allowed: structure, time, every_pair"):
        known_graphs(position, speaker, valid, eigenvectors="some")


@KINDS
def test_losses_count_what_is_hidden_only(kind, rng):
    position, speaker, valid, x, observed = conversations(rng)
    graphs = known_graphs(position, speaker, valid)
    modules, params = networks(rng, kind, x.shape[1])
    key = jax.random.key(1)
    everything = np.ones_like(observed)
    for loss in score_losses(modules, params, graphs, x, everything, everything, SCALE, key, "v"):
        np.testing.assert_array_equal(loss, 0)
    losses = score_losses(modules, params, graphs, x, observed, everything, SCALE, key, "v")
    assert all((loss > 0).all() and np.isfinite(loss).all() for loss in losses)
    given = shown(modules.state, graphs, x, observed, SCALE)
    assert (given.drawn == ~observed).all()
    assert given.kept[0, 1] and not given.kept[1, 1]
