"""Features and spectra drawn together: the exact law, and what may not matter."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdjax.diffusion import sde as sdes
from mmdjax.diffusion import time_grid
from mmdjax.diffusion.predictions import v_from_noise
from mmdjax.methods.graph_diffusion import (
    GraphModules,
    draw,
    features_noise,
    hidden,
    known_graphs,
    score_losses,
    shown,
    spectra_of,
)
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


def networks(rng, graphs, given):
    sizes = {"width": 16, "layers": 1, "heads": 2, "mlp": 32, "time_features": 8}
    modules = GraphModules(
        GraphTransformer(M * D, **sizes), GraphTransformer(M, "all", **sizes), VP
    )
    batch, n = graphs.valid.shape
    tokens = jnp.zeros((batch, n, 2 * M * D + M)), jnp.zeros((batch, n, 3 * M + 1))
    key, t = jax.random.key(0), jnp.zeros(batch)
    params = {
        "features": modules.features.init(key, tokens[0], t, graphs.valid, graphs.weights),
        "spectra": modules.spectra.init(key, tokens[1], t, graphs.basis.present),
    }
    filled = jax.tree.map(lambda a: 0.3 * rng.standard_normal(a.shape).astype(np.float32), params)
    return modules, filled


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
    given = shown(
        graphs, np.tile(spoiled, (batch, 1, 1, 1)), np.tile(observed, (batch, 1, 1)), SCALE
    )
    standard = Gaussian(np.zeros(n * M), np.eye(n * M), np.arange(n * M))
    modules = GraphModules(Gaussian(mean, covariance, np.flatnonzero(~seen)), standard, VP)
    params = {"features": None, "spectra": None}
    grid = time_grid("log_snr", VP, 40)
    keys = jax.random.split(jax.random.key(0), batch)
    drawn, spectra, nfe = draw(modules, params, graphs, given, keys, grid, "dpmpp_2m")
    drawn = np.asarray(drawn).reshape(batch, -1)
    np.testing.assert_array_equal(drawn[:, seen], np.tile(x[seen].astype(np.float32), (batch, 1)))
    np.testing.assert_allclose(drawn[:, ~seen].mean(0), mean, atol=0.03)
    np.testing.assert_allclose(np.cov(drawn[:, ~seen].T), covariance, atol=0.03)
    np.testing.assert_allclose(np.asarray(spectra).std(0), 1, atol=0.03)
    assert nfe == 40


def drawn(rng, arguments):
    graphs = known_graphs(*(np.zeros((1, 2)), np.zeros((1, 2), int), np.ones((1, 2), bool)))
    modules, params = networks(np.random.default_rng(0), graphs, None)
    grid = time_grid("log_snr", VP, 4)

    @jax.jit
    def of(position, speaker, valid, x, observed):
        graphs = known_graphs(position, speaker, valid)
        given = shown(graphs, x, observed, SCALE)
        keys = jax.random.split(jax.random.key(0), len(x))
        return draw(modules, params, graphs, given, keys, grid, "euler_maruyama")[:2]

    return of(*arguments)


def test_padding_and_hidden_values_change_no_draw(rng):
    position, speaker, valid, x, observed = conversations(rng)
    first = drawn(rng, (position, speaker, valid, x, observed))
    n = x.shape[1]
    spoiled = np.where(observed[..., None], x, np.nan)
    more = [
        np.pad(a, [(0, 0), (0, 3)] + [(0, 0)] * (a.ndim - 2)) for a in (position, speaker, valid)
    ]
    long = np.pad(spoiled, [(0, 0), (0, 3), (0, 0), (0, 0)], constant_values=np.nan)
    second = drawn(rng, (*more, long, np.pad(observed, [(0, 0), (0, 3), (0, 0)])))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(b[:, :n], a, atol=1e-4)
        np.testing.assert_array_equal(b[:, n:], 0)


def test_what_is_observed_is_given_back_as_it_is(rng):
    arguments = conversations(rng)
    position, speaker, valid, x, observed = arguments
    features, spectra = drawn(rng, arguments)
    np.testing.assert_array_equal(features[np.asarray(observed)], x[np.asarray(observed)])
    graphs = known_graphs(position, speaker, valid)
    complete = spectra_of(graphs, x, np.ones_like(observed), SCALE)
    np.testing.assert_allclose(spectra[0, :, 1], complete[0, :, 1], atol=1e-4)
    assert np.abs(spectra[1] - complete[1]).max() > 1e-3


def test_permuting_utterances_permutes_the_noise(rng):
    position, speaker, valid, x, observed = conversations(rng)
    order = rng.permutation(x.shape[1])
    graphs = known_graphs(position, speaker, valid)
    modules, params = networks(rng, graphs, None)

    def noise(order):
        of = known_graphs(*(a[:, order] for a in (position, speaker, valid)))
        given = shown(of, x[:, order], observed[:, order], SCALE)
        call = features_noise(modules, params["features"], of, given)
        return call(x[:, order], jnp.full(len(x), 0.5)), given.partial

    straight, turned = noise(np.arange(len(order))), noise(order)
    np.testing.assert_allclose(turned[0], straight[0][:, order], atol=1e-4)
    # Spectra belong to eigenvalues, which do not know the order of utterances.
    np.testing.assert_allclose(turned[1], straight[1], atol=1e-3)


def test_losses_count_what_is_hidden_only(rng):
    position, speaker, valid, x, observed = conversations(rng)
    graphs = known_graphs(position, speaker, valid)
    modules, params = networks(rng, graphs, None)
    key = jax.random.key(1)
    everything = np.ones_like(observed)
    for loss in score_losses(modules, params, graphs, x, everything, SCALE, key):
        np.testing.assert_array_equal(loss, 0)
    losses = score_losses(modules, params, graphs, x, observed, SCALE, key)
    assert all((loss > 0).all() and np.isfinite(loss).all() for loss in losses)
    entries, eigenvalues = hidden(graphs, shown(graphs, x, observed, SCALE))
    assert not eigenvalues[0, :, 1].any() and (entries == ~observed).all()


def test_the_loss_at_the_exact_score_is_its_floor(rng):
    """Standard normal features, weight v: E |v - E[v | x]|^2 = 1 at every time of VP."""
    batch, n = 4000, 3
    about = (np.arange(3.0), np.zeros(3, int), np.ones(3, bool))
    graphs = known_graphs(*(np.tile(a, (batch, 1)) for a in about))
    x = rng.standard_normal((batch, n, M, D)).astype(np.float32)
    observed = np.tile(np.array([True, False, False]), (batch, n, 1))
    zero = type("Zero", (), {"apply": lambda self, p, tokens, *_: jnp.zeros((batch, n, M * D))})()
    none = type("Zero", (), {"apply": lambda self, p, tokens, *_: jnp.zeros((batch, n, M))})()
    params = {"features": None, "spectra": None}
    modules = GraphModules(zero, none, VP)
    loss = score_losses(modules, params, graphs, x, observed, SCALE, jax.random.key(0))[0]
    assert float(loss.mean()) == pytest.approx(1, abs=0.02)
