"""Features and graphs drawn together: the exact laws, and losses at their optimum."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mmdjax.diffusion import time_grid
from mmdjax.diffusion.predictions import v_from_noise
from mmdjax.methods.graph import states as graph_states
from mmdjax.methods.graph.diffusion import (
    GraphModules,
    draw,
    score_losses,
    shown,
)
from mmdjax.methods.graph.losses import energy_loss, training_mask
from mmdjax.methods.graph.modules import Prepared
from mmdjax.methods.graph.states import known_graphs
from tests.numerics.small_graphs import SCALE, VP, D, M


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
