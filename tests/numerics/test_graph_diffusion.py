"""Features and spectra drawn together: the exact law, and what may not matter."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mmdjax.diffusion import sde as sdes
from mmdjax.diffusion import time_grid
from mmdjax.diffusion.predictions import v_from_noise
from mmdjax.errors import UserError
from mmdjax.graphs.conversation import BASES
from mmdjax.methods.graph import states as graph_states
from mmdjax.methods.graph.diffusion import (
    GraphModules,
    draw,
    features_noise,
    graph_noise,
    graph_tokens,
    score_losses,
    shown,
)
from mmdjax.methods.graph.losses import energy_loss, training_mask
from mmdjax.methods.graph.modules import Prepared
from mmdjax.methods.graph.states import known_graphs, shortened
from mmdjax.networks.edge_network import EdgeNetwork
from mmdjax.networks.graph_transformer import GraphTransformer

VP = sdes.REGISTRY["vp"]()
SCALE = 0.1
M, D = 3, 2


def conversations(rng, batch=2, n=5):
    position = np.tile(np.arange(n, dtype=np.float32), (batch, 1))
    speaker, valid = rng.integers(0, 2, (batch, n)), np.ones((batch, n), bool)
    x = rng.standard_normal((batch, n, M, D)).astype(np.float32)
    observed = rng.random((batch, n, M)) < 0.6
    observed[..., 0] |= ~observed.any(-1)
    observed[0, :, 1] = True
    return position, speaker, valid, x, observed


def networks(rng, kind, n, joint=True):
    """Modules of a kind of state with random parameters, nothing hidden by zero gates."""
    sizes = {"layers": 1, "time_features": 8}
    more = {"width": 16, "heads": 2, "mlp": 32}
    of_graph = {
        "spectral": GraphTransformer(M, "all", **sizes, **more),
        "dense": EdgeNetwork(M, 8, **sizes),
    }[kind]
    state = graph_states.REGISTRY[kind]
    modules = GraphModules(GraphTransformer(M * D, **sizes, **more), of_graph, state, VP, joint)
    known = known_graphs(np.zeros((1, n)), np.zeros((1, n), int), np.ones((1, n), bool))
    given = shown(state, known, np.zeros((1, n, M, D)), np.ones((1, n, M), bool), SCALE)
    t, edges = jnp.zeros(1), jnp.zeros((1, M, n, n))
    about = (jnp.zeros((1, n, 2 * M * D + M)), t, known.valid, known.weights, edges)
    tokens = graph_tokens(modules, known, given, given.x, given.partial)
    params = {
        "features": modules.features.init(jax.random.key(0), *about),
        "graph": of_graph.init(jax.random.key(1), tokens, t, state.seen(known)),
    }
    filled = jax.tree.map(lambda a: 0.3 * rng.standard_normal(a.shape).astype(np.float32), params)
    return modules, filled


KINDS = pytest.mark.parametrize("kind", tuple(graph_states.REGISTRY))


class Gaussian(NamedTuple):
    """In place of a network: the exact v of N(mean, covariance) on the entries listed in `at`."""

    mean: np.ndarray
    covariance: np.ndarray
    at: np.ndarray

    def apply(self, params, tokens, t, *_):
        size = M * D if tokens.shape[-1] == 2 * M * D + M else M
        alpha, std = (a[0] for a in VP.marginal(t))
        # VP is at unit variance: the tokens hold x itself.
        x = tokens[..., :size].reshape(len(tokens), -1)
        law = alpha**2 * self.covariance + std**2 * np.eye(len(self.mean))
        away = x[:, self.at] - alpha * self.mean
        noise = jnp.zeros_like(x).at[:, self.at].set(std * jnp.linalg.solve(law, away.T).T)
        return v_from_noise(VP, x, noise, t).reshape(*tokens.shape[:2], size)


def test_draws_follow_the_conditional_law(rng):
    """2e4 draws of one conversation: mean and covariance of what is hidden."""
    n, batch = 3, 20_000
    root = rng.standard_normal((n * M * D, n * M * D)) / np.sqrt(n * M * D)
    joint = root @ root.T + 0.2 * np.eye(n * M * D)
    observed = np.array([[1, 0, 1], [1, 1, 0], [0, 1, 1]], bool)
    seen = np.repeat(observed, D, axis=1).reshape(-1)
    x = rng.multivariate_normal(np.zeros(n * M * D), joint)
    gain = joint[~seen][:, seen] @ np.linalg.inv(joint[seen][:, seen])
    mean, covariance = gain @ x[seen], joint[~seen][:, ~seen] - gain @ joint[seen][:, ~seen]
    about = (np.arange(3.0), np.array([0, 1, 0]), np.ones(3, bool))
    graphs = known_graphs(*(np.tile(a, (batch, 1)) for a in about))
    spoiled = np.where(seen, x, np.nan).reshape(n, M, D).astype(np.float32)
    spectral = graph_states.REGISTRY["spectral"]
    given = shown(
        spectral,
        graphs,
        np.tile(spoiled, (batch, 1, 1, 1)),
        np.tile(observed, (batch, 1, 1)),
        SCALE,
    )
    standard = Gaussian(np.zeros(n * M), np.eye(n * M), np.arange(n * M))
    modules = GraphModules(
        Gaussian(mean, covariance, np.flatnonzero(~seen)), standard, spectral, VP
    )
    params = {"features": None, "graph": None}
    grid = time_grid("log_snr", VP, 40)
    keys = jax.random.split(jax.random.key(0), batch)
    drawn, spectra, nfe = draw(modules, params, graphs, given, keys, grid, "dpmpp_2m")
    drawn = np.asarray(drawn).reshape(batch, -1)
    np.testing.assert_array_equal(drawn[:, seen], np.tile(x[seen].astype(np.float32), (batch, 1)))
    np.testing.assert_allclose(drawn[:, ~seen].mean(0), mean, atol=0.03)
    np.testing.assert_allclose(np.cov(drawn[:, ~seen].T), covariance, atol=0.03)
    np.testing.assert_allclose(np.asarray(spectra).std(0), 1, atol=0.03)
    assert nfe == 40


class Half(NamedTuple):
    """In place of one of both networks: its part of the exact v of N(0, covariance) on hidden
    features (at `hidden` of N M D), then spectra (N M).

    `vectors` (N, N), of the basis, undo what tokens and edges are made by. Where `alone`, spectra
    have the score of their own law, which is the best that there is without the features.
    """

    covariance: np.ndarray
    hidden: np.ndarray
    vectors: np.ndarray
    part: str
    alone: bool = False

    def apply(self, params, tokens, t, valid, weights=None, edges=None):
        alpha, std = (a[0] for a in VP.marginal(t))
        law = alpha**2 * self.covariance + std**2 * np.eye(len(self.covariance))
        batch, count, split = len(tokens), len(self.vectors), len(self.hidden)
        if self.part == "features":
            features = tokens[..., : M * D]
            spectra = jnp.einsum("ij,bmik,kj->bjm", self.vectors, edges, self.vectors)
        else:
            spectra = tokens[..., :M]
            features = jnp.einsum("ni,bif->bnf", self.vectors, tokens[..., 3 * M + 1 :])
            if self.alone:
                law = jnp.asarray(law).at[:split, split:].set(0).at[split:, :split].set(0)
                features = jnp.zeros((batch, count, M * D))
        flat = [features.reshape(batch, -1)[:, self.hidden], spectra.reshape(batch, -1)]
        noise = std * jnp.linalg.solve(law, jnp.concatenate(flat, 1).T).T
        if self.part == "features":
            wide = jnp.zeros((batch, count * M * D)).at[:, self.hidden].set(noise[:, :split])
            return v_from_noise(VP, features.reshape(batch, -1), wide, t).reshape(features.shape)
        own = noise[:, split:].reshape(spectra.shape)
        return v_from_noise(VP, spectra, own, t)


def drawn_together(rng, joint):
    """Correlations of 2e4 draws of hidden features and spectra, and those of their law."""
    n, batch = 3, 20_000
    observed = np.array([[1, 0, 1], [1, 1, 0], [0, 1, 1]], bool)
    hidden = np.flatnonzero(~np.repeat(observed, D, axis=1).reshape(-1))
    size = len(hidden) + n * M
    # Features and spectra are unit Gaussians, each of a pair with another one by 0.9.
    law = np.eye(size)
    for i in range(len(hidden)):
        law[i, len(hidden) + i] = law[len(hidden) + i, i] = 0.9
    about = (np.arange(3.0), np.array([0, 1, 0]), np.ones(3, bool))
    graphs = known_graphs(*(np.tile(a, (batch, 1)) for a in about))
    vectors = np.asarray(graphs.basis.vectors)[0]
    spectral = graph_states.REGISTRY["spectral"]
    shown_x = np.zeros((batch, n, M, D), np.float32)
    given = shown(spectral, graphs, shown_x, np.tile(observed, (batch, 1, 1)), SCALE)
    halves = [Half(law, hidden, vectors, part, not joint) for part in ("features", "graph")]
    modules = GraphModules(*halves, spectral, VP, joint)
    keys, grid = jax.random.split(jax.random.key(0), batch), time_grid("log_snr", VP, 40)
    none = {"features": None, "graph": None}
    x, spectra, _ = draw(modules, none, graphs, given, keys, grid, "dpmpp_2m")
    both = [np.asarray(x).reshape(batch, -1)[:, hidden], np.asarray(spectra).reshape(batch, -1)]
    return np.cov(np.concatenate(both, 1).T), law


def test_features_and_spectra_that_depend_on_each_other_are_drawn_from_their_joint_law(rng):
    found, law = drawn_together(rng, joint=True)
    np.testing.assert_allclose(found, law, atol=0.04)


def test_graphs_that_do_not_see_features_lose_what_ties_both_together(rng):
    """The form of the paper's eq. 15, an option: each law is its own, the joint one is not."""
    found, law = drawn_together(rng, joint=False)
    spectra = slice(len(found) - 9, None)
    np.testing.assert_allclose(found[spectra, spectra], law[spectra, spectra], atol=0.04)
    tied = law == 0.9
    assert found[tied].min() > 0.2 and found[tied].max() < 0.8


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


def test_the_loss_at_the_exact_score_is_its_floor(rng):
    """Standard normal features, weight v: E |v - E[v | x]|^2 = 1 at every time of VP."""
    batch, n = 4000, 3
    about = (np.arange(3.0), np.zeros(3, int), np.ones(3, bool))
    graphs = known_graphs(*(np.tile(a, (batch, 1)) for a in about))
    x = rng.standard_normal((batch, n, M, D)).astype(np.float32)
    observed = np.tile(np.array([True, False, False]), (batch, n, 1))
    zero = type("Zero", (), {"apply": lambda self, p, tokens, *_: jnp.zeros((batch, n, M * D))})()
    modules = GraphModules(zero, None, graph_states.REGISTRY["spectral"], VP)
    params = {"features": None}
    about = (graphs, x, observed, np.ones_like(observed), SCALE)
    losses = score_losses(modules, params, *about, jax.random.key(0), "v")
    assert float(losses[0].mean()) == pytest.approx(1, abs=0.02)
    np.testing.assert_array_equal(losses[1], 0)


@pytest.mark.parametrize("spread", [1.0, 0.5])
def test_the_energy_score_of_conversations_is_that_of_what_is_hidden(spread):
    """Draws are N(0, spread^2) of n hidden numbers, the truth is N(0, 1): a closed form."""
    batch, n = 2000, 3
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, n, M, D)).astype(np.float32)
    position = np.tile(np.arange(n, dtype=np.float32), (batch, 1))
    speaker, valid = np.zeros((batch, n), int), np.ones((batch, n), bool)
    graphs = known_graphs(position, speaker, valid)
    every = np.ones((batch, n, M), bool)
    rows = Prepared(x, (), every, position, position, speaker, graphs)

    class Narrow(NamedTuple):
        spread: float

        def apply(self, params, tokens, *_):
            return -self.spread * tokens[..., : M * D]  # one step of DDIM from pure noise is -v

    state = graph_states.REGISTRY["spectral"]
    modules = GraphModules(Narrow(spread), None, state, VP)
    grid = tuple(time_grid("log_snr", VP, 1).tolist())
    data = {"row": np.arange(batch), "all": rows, "scale": SCALE}
    key = jax.random.key(0)
    loss = energy_loss(modules, grid, 2, 1.0)({"features": None}, data, np.ones(batch), key, n)
    hidden = (~np.asarray(training_mask(jax.random.split(key)[0], every))).sum((1, 2)) * D
    length = stats.chi.mean(np.maximum(hidden, 1)) / np.sqrt(np.maximum(hidden, 1)) * (hidden > 0)
    expected = (np.sqrt(1 + spread**2) - spread / np.sqrt(2)) * length.mean()
    assert float(loss) == pytest.approx(expected, abs=0.02)
