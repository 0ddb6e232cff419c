"""Features and graphs of a conversation, diffused together and drawn in one scan (GSDNet).

The state of a conversation of N utterances is its features X (N, M, D) and the graph of each
modality (`methods/graph/states.py`), each with a score network of its own and given what is
observed (eq. 8-11). Both see all of the state: the score of a joint law is not that of its parts
(eq. 6). The paper's eq. 15 shows X(t) to the network of the features alone, so that features and
graphs that depend on each other come out with too little of that dependence; `joint=False` is that
form. One network of each kind serves all modalities: an utterance's token holds
the noisy values of what it misses and the clean ones of what it shows, so any set of missing
entries is one program. The network of the features passes messages on the graphs as they are at
time t, noisy like the features: what either noise does to a graph is what GSDNet is about.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmdjax.diffusion import sample
from mmdjax.diffusion.losses import WEIGHTS, denoising_score_matching, training_times
from mmdjax.diffusion.predictions import NoiseFn, noise_from_v, scaled
from mmdjax.diffusion.sde import SDE, perturb
from mmdjax.methods.graph.states import Graphs, GraphState
from mmdjax.networks.graph_transformer import GraphTransformer
from mmdjax.types import Params


class GraphModules(NamedTuple):
    """features: M D outputs an utterance. graph: network of the graphs' state, None where they are
    not drawn. state: of `states.REGISTRY`. sde: of both. joint: `graph` sees X(t), as above."""

    features: GraphTransformer
    graph: nn.Module | None
    state: GraphState
    sde: SDE
    joint: bool = True


class Shown(NamedTuple):
    """What is given of a batch of conversations.

    Attributes:
      x: (B, N, M, D), 0 where hidden. observed: (B, N, M) bool.
      drawn: (B, N, M) bool, the features that are to be drawn.
      partial: (B, N, S) graphs of what is observed.
      kept: (B, M) bool, a modality's graph is not to be drawn, but `partial` as it is.
    """

    x: jax.Array
    observed: jax.Array
    drawn: jax.Array
    partial: jax.Array
    kept: jax.Array


def shown(
    state: GraphState,
    graphs: Graphs,
    x: jax.Array,
    observed: jax.Array,
    scale: jax.Array | float,
    present: jax.Array | None = None,
) -> Shown:
    """What may be known of x (B, N, M, D), of which only observed entries are read.

    Args:
      scale: one unit of the graphs' state.
      present: (B, N, M) bool, what there is to learn from; nothing else is drawn then. By default
        all that is hidden is drawn.
    """
    valid = graphs.valid[..., None]
    observed = observed & valid
    x = jnp.where(observed[..., None], x, 0.0)
    drawn, kept = valid & ~observed, (observed | ~valid).all(1)
    if present is not None:
        drawn = drawn & present
        # One utterance without the modality leaves the true graph unknown: it is no target.
        kept = kept | ~(present | ~valid).all(1)
    return Shown(x, observed, drawn, state.of(graphs, x, observed) / scale, kept)


def features_noise(
    modules: GraphModules, params: Params, graphs: Graphs, given: Shown
) -> Callable[..., jax.Array]:
    """(x (B, N, M, D), state (B, N, S), t (B,)) -> noise of x."""
    flat = (*given.x.shape[:2], -1)

    def noise_fn(x, state, t):
        noisy = _noisy(modules, given, x, t)
        parts = (noisy.reshape(flat), given.x.reshape(flat), given.observed)
        tokens = jnp.concatenate([part.astype(x.dtype) for part in parts], -1)
        edges = None
        if modules.graph is not None:
            edges = modules.state.matrices(graphs, _mixed(modules, graphs, given, state, t))
        v = modules.features.apply(params, tokens, t, graphs.valid, graphs.weights, edges)
        return noise_from_v(modules.sde, x, v.reshape(x.shape), t)

    return noise_fn


def graph_noise(
    modules: GraphModules, params: Params, graphs: Graphs, given: Shown
) -> Callable[..., jax.Array]:
    """(x (B, N, M, D), state (B, N, S), t (B,)) -> noise of the state."""

    def noise_fn(x, state, t):
        mixed = _mixed(modules, graphs, given, state, t)
        tokens = graph_tokens(modules, graphs, given, _noisy(modules, given, x, t), mixed)
        v = modules.graph.apply(params, tokens, t, modules.state.seen(graphs))
        return noise_from_v(modules.sde, state, v.reshape(state.shape), t)

    return noise_fn


def graph_tokens(
    modules: GraphModules, graphs: Graphs, given: Shown, noisy: jax.Array, state: jax.Array
) -> jax.Array:
    """(B, ..., F) inputs of the network of graphs; noisy: features where they are drawn."""
    tokens = modules.state.tokens(graphs, state, given.partial, given.observed)
    if not modules.joint:
        return tokens
    features = modules.state.features(graphs, noisy + given.x)
    return jnp.concatenate([tokens, features.astype(tokens.dtype)], -1)


def _noisy(modules: GraphModules, given: Shown, x: jax.Array, t: jax.Array) -> jax.Array:
    """Features where they are drawn, at unit variance. What is neither observed nor drawn, since no
    truth is known, is 0 in both parts."""
    return jnp.where(given.drawn[..., None], scaled(modules.sde, x, t)[0], 0.0)


def _mixed(
    modules: GraphModules, graphs: Graphs, given: Shown, state: jax.Array, t: jax.Array
) -> jax.Array:
    """Noisy where it is drawn, at unit variance; the known graph elsewhere."""
    entries = modules.state.entries(graphs, given.kept)
    return jnp.where(entries, scaled(modules.sde, state, t)[0], given.partial)


def score_losses(
    modules: GraphModules,
    params: Params,
    graphs: Graphs,
    x: jax.Array,
    observed: jax.Array,
    present: jax.Array,
    scale: jax.Array | float,
    key: jax.Array,
    weight: str,
) -> tuple[jax.Array, jax.Array]:
    """L_s of features and of graphs (eq. 11), (B,) each, at the same times.

    Args:
      params: {'features', 'graph'}.
      x: (B, N, M, D), read where present. observed: (B, N, M), what is given of it.
      present: (B, N, M), see `shown`.
      weight: of `diffusion.losses.WEIGHTS`.
    """
    key_time, key_x, key_graph = jax.random.split(key, 3)
    sde, state = modules.sde, modules.state
    given, t = (
        shown(state, graphs, x, observed, scale, present),
        training_times(key_time, len(x), sde),
    )
    true = shown(state, graphs, x, present, scale)
    x, complete = true.x, true.partial
    noise = jax.random.normal(key_graph, complete.shape)
    noise_x = jax.random.normal(key_x, x.shape)
    noisy_graph, noisy_x = perturb(sde, complete, noise, t), perturb(sde, x, noise_x, t)
    of_features = features_noise(modules, params["features"], graphs, given)

    def loss(noise_fn, x0, mask, noise):
        """Over rows of the last axis of x0, as `denoising_score_matching` takes them."""
        shape, rows = x0.shape, (len(x0), -1, x0.shape[-1])
        shaped = lambda a, t: noise_fn(a.reshape(shape), t).reshape(rows)  # noqa: E731
        about = (mask.reshape(len(x0), -1), t, noise.reshape(rows), WEIGHTS[weight])
        return denoising_score_matching(shaped, sde, x0.reshape(rows), *about)

    loss_x = loss(
        lambda a, t: of_features(a, noisy_graph, t),
        x,
        given.drawn,
        noise_x,
    )
    if modules.graph is None:
        return loss_x, jnp.zeros_like(loss_x)
    of_graph = graph_noise(modules, params["graph"], graphs, given)
    one = lambda a, t: of_graph(noisy_x, a[..., 0], t)[..., None]  # noqa: E731
    entries = state.entries(graphs, given.kept)
    return loss_x, loss(one, complete[..., None], entries, noise[..., None])


def draw(
    modules: GraphModules,
    params: Params,
    graphs: Graphs,
    given: Shown,
    keys: jax.Array,
    grid: np.ndarray | jax.Array,
    method: str,
    **options: Any,
) -> tuple[jax.Array, jax.Array, int]:
    """Features and graphs of what is missing, together in one scan (eq. 15, 16).

    Args:
      keys: (B,) one a conversation. Of features and spectra, noise belongs to an utterance's place
        in its conversation: neither padding behind it nor other conversations change a draw.
      grid, method, options: see `diffusion.sample`.

    Returns:
      x (B, N, M, D) and the graphs' state (B, N, S), what is known as it is; NFE.
    """
    noise_fn = joint_noise(modules, params, graphs, given)
    shape = joined(modules, given.x, given.partial).shape[1:]
    both, nfe = sample(keys, shape, noise_fn, modules.sde, grid, method, **options)
    x, state = parted(both, given)
    x = jnp.where(given.drawn[..., None], x, given.x)
    if modules.graph is None:
        return x, given.partial, nfe
    entries = modules.state.entries(graphs, given.kept)
    return x, jnp.where(entries, state, given.partial), nfe


def joined(modules: GraphModules, x: jax.Array, state: jax.Array) -> jax.Array:
    """Features (B, N, M, D) and the graphs' state (B, N, S) as one array, if both are drawn."""
    flat = x.reshape(*x.shape[:2], -1)
    return flat if modules.graph is None else jnp.concatenate([flat, state], -1)


def parted(both: jax.Array, given: Shown) -> tuple[jax.Array, jax.Array]:
    """Features and state of such an array."""
    size = given.x[0, 0].size
    return both[..., :size].reshape(given.x.shape), both[..., size:]


def joint_noise(modules: GraphModules, params: Params, graphs: Graphs, given: Shown) -> NoiseFn:
    """(`joined` (B, N, M D + S), t ()) -> its noise."""
    of_features = features_noise(modules, params["features"], graphs, given)
    of_graph = None
    if modules.graph is not None:
        of_graph = graph_noise(modules, params["graph"], graphs, given)

    def noise_fn(both, t):
        x, state = parted(both, given)
        t = jnp.broadcast_to(t, x.shape[:1])
        noise = of_features(x, state, t)
        return joined(modules, noise, of_graph(x, state, t) if of_graph else None)

    return noise_fn
