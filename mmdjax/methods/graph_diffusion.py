"""Features and spectra of a conversation, diffused together and drawn in one scan (GSDNet).

The state of a conversation of N utterances is its features X (N, M, D) and, for each modality, the
eigenvalues Lambda (N, M) of its graph in the basis of the structure (`graphs/spectral.py`), each
with a score network of its own and given what is observed (eq. 8-11, 15). One network of each kind
serves all modalities: an utterance's token holds the noisy values of what it misses and the clean
ones of what it shows, so any set of missing entries is one program.

Where a modality misses utterances its graph is unknown, but not wholly: `partial` takes the
likeness of observed pairs and nothing for the others, and its spectrum is what the drawn one is
conditioned on. A modality that shows every utterance needs no drawing. Spectra are deviations from
the eigenvalues of the structure, on a common scale.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from mmdjax.diffusion import sample
from mmdjax.diffusion.losses import WEIGHTS, denoising_score_matching, training_times
from mmdjax.diffusion.predictions import noise_from_v, scaled
from mmdjax.diffusion.sde import SDE
from mmdjax.graphs.conversation import by_likeness, normalised, structure
from mmdjax.graphs.spectral import Basis, basis, spectrum
from mmdjax.networks.graph_transformer import GraphTransformer


class GraphModules(NamedTuple):
    """features: M D outputs an utterance; spectra: M outputs an eigenvalue; sde: of both."""

    features: GraphTransformer
    spectra: GraphTransformer
    sde: SDE


class Graphs(NamedTuple):
    """What is known of a batch of conversations without their features.

    Attributes:
      valid: (B, N) bool. weights: (B, N, N) of the structure. basis: its eigenvectors.
    """

    valid: jax.Array
    weights: jax.Array
    basis: Basis


class Shown(NamedTuple):
    """What is given of a batch of conversations.

    Attributes:
      x: (B, N, M, D), 0 where hidden. observed: (B, N, M) bool.
      partial: (B, N, M) spectra of what is observed. whole: (B, M) bool, nothing is hidden.
    """

    x: jax.Array
    observed: jax.Array
    partial: jax.Array
    whole: jax.Array


def known_graphs(position, speaker, valid, **edges) -> Graphs:
    """From (B, N) each; edges: see `graphs.conversation.structure`."""
    weights = jax.vmap(lambda *row: structure(*row, **edges))(position, speaker, valid)
    return Graphs(valid, weights, jax.vmap(lambda w, v: basis(normalised(w), v))(weights, valid))


def spectra_of(graphs: Graphs, x, observed, scale: float):
    """Spectra (B, N, M) of the modalities' graphs, less those of the structure, over `scale`.

    Args:
      x: (B, N, M, D), read where observed (B, N, M).
    """

    def of_modality(weights, found, x, observed):
        own = normalised(by_likeness(weights, x, observed))
        return jnp.where(found.present, spectrum(own, found) - found.values, 0.0) / scale

    over_modalities = jax.vmap(of_modality, (None, None, 1, 1), 1)
    return jax.vmap(over_modalities)(graphs.weights, graphs.basis, x, observed)


def shown(graphs: Graphs, x, observed, scale: float) -> Shown:
    """What may be known of x (B, N, M, D), of which only observed entries are read."""
    observed = observed & graphs.valid[..., None]
    x = jnp.where(observed[..., None], x, 0.0)
    whole = (observed | ~graphs.valid[..., None]).all(1)
    return Shown(x, observed, spectra_of(graphs, x, observed, scale), whole)


def hidden(graphs: Graphs, given: Shown):
    """Entries of x (B, N, M) and of the spectra (B, N, M) that are to be drawn."""
    entries = graphs.valid[..., None] & ~given.observed
    return entries, graphs.basis.present[..., None] & ~given.whole[:, None]


def features_noise(modules: GraphModules, params, graphs: Graphs, given: Shown):
    """(x (B, N, M, D), t (B,)) -> its noise."""
    flat = (*given.x.shape[:2], -1)
    show = given.observed[..., None]

    def noise_fn(x, t):
        noisy = jnp.where(show, 0.0, scaled(modules.sde, x, t)[0])
        parts = (noisy.reshape(flat), given.x.reshape(flat), given.observed)
        tokens = jnp.concatenate([part.astype(x.dtype) for part in parts], -1)
        v = modules.features.apply(params, tokens, t, graphs.valid, graphs.weights)
        return noise_from_v(modules.sde, x, v.reshape(x.shape), t)

    return noise_fn


def spectra_noise(modules: GraphModules, params, graphs: Graphs, given: Shown):
    """(spectra (B, N, M), t (B,)) -> their noise."""
    share = given.observed.sum(1) / jnp.maximum(graphs.valid.sum(1), 1)[:, None]
    share = jnp.broadcast_to(share[:, None], given.partial.shape)

    def noise_fn(spectra, t):
        noisy = jnp.where(given.whole[:, None], 0.0, scaled(modules.sde, spectra, t)[0])
        parts = (noisy, given.partial, share, graphs.basis.values[..., None])
        tokens = jnp.concatenate(parts, -1)
        v = modules.spectra.apply(params, tokens, t, graphs.basis.present)
        return noise_from_v(modules.sde, spectra, v, t)

    return noise_fn


def score_losses(
    modules: GraphModules, params, graphs: Graphs, x, observed, scale, key, weight="v"
):
    """L_s of features and of spectra (eq. 11), (B,) each, at the same times.

    Args:
      params: {'features', 'spectra'}.
      x: (B, N, M, D), complete on valid utterances. observed: (B, N, M), what is given.
      weight: of `diffusion.losses.WEIGHTS`.
    """
    key_time, key_x, key_spectra = jax.random.split(key, 3)
    given, t = shown(graphs, x, observed, scale), training_times(key_time, len(x), modules.sde)
    entries, eigenvalues = hidden(graphs, given)
    complete = spectra_of(
        graphs, x, jnp.broadcast_to(graphs.valid[..., None], observed.shape), scale
    )

    def loss(noise_fn, x0, mask, key):
        """Over rows of the last axis of x0, as `denoising_score_matching` takes them."""
        flat = x0.reshape(len(x0), -1, x0.shape[-1])
        shaped = lambda a, t: noise_fn(a.reshape(x0.shape), t).reshape(flat.shape)  # noqa: E731
        noise = jax.random.normal(key, x0.shape).reshape(flat.shape)
        mask = mask.reshape(len(x0), -1)
        return denoising_score_matching(shaped, modules.sde, flat, mask, t, noise, WEIGHTS[weight])

    of_features = features_noise(modules, params["features"], graphs, given)
    of_spectra = spectra_noise(modules, params["spectra"], graphs, given)
    one = lambda a, t: of_spectra(a[..., 0], t)[..., None]  # noqa: E731
    return (
        loss(of_features, jnp.where(graphs.valid[..., None, None], x, 0.0), entries, key_x),
        loss(one, complete[..., None], eigenvalues, key_spectra),
    )


def draw(
    modules: GraphModules, params, graphs: Graphs, given: Shown, keys, grid, method, **options
):
    """Features and spectra of what is missing, together in one scan (eq. 15, 16).

    Args:
      keys: (B,) one a conversation; noise belongs to an utterance's place in its conversation, so
        neither padding behind it nor other conversations change a draw.
      grid, method, options: see `diffusion.sample`.

    Returns:
      x (B, N, M, D) and spectra (B, N, M), observed ones as they are; NFE.
    """
    batch, count, modalities, width = given.x.shape
    of_features = features_noise(modules, params["features"], graphs, given)
    of_spectra = spectra_noise(modules, params["spectra"], graphs, given)

    def parted(state):
        return state[..., :width], state[..., width]

    def noise_fn(state, t):
        x, spectra = parted(state)
        t = jnp.broadcast_to(t, (batch,))
        noise = of_features(x, t), of_spectra(spectra, t)[..., None]
        return jnp.concatenate(noise, -1)

    shape = (count, modalities, width + 1)
    state, nfe = sample(keys, shape, noise_fn, modules.sde, grid, method, **options)
    x, spectra = parted(state)
    entries, eigenvalues = hidden(graphs, given)
    x = jnp.where(entries[..., None], x, given.x)
    return x, jnp.where(eigenvalues, spectra, given.partial), nfe
