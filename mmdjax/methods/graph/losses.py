"""The losses of GSDNet's phases, as `training.step` takes them (see `methods/latent/losses.py`)."""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from mmdjax.data.missing.patterns import patterns
from mmdjax.diffusion.energy import energy_score
from mmdjax.diffusion.samplers import registry
from mmdjax.methods.graph.diffusion import (
    GraphModules,
    joined,
    joint_noise,
    score_losses,
    shown,
)
from mmdjax.methods.graph.modules import Completed, Predictor, Prepared, completed
from mmdjax.methods.latent.losses import weighted_mean
from mmdjax.runtime.compilation import shared
from mmdjax.types import hidden

if TYPE_CHECKING:
    from mmdjax.tasks import Task
    from mmdjax.training.step import Loss


def training_mask(key: jax.Array, present: jax.Array) -> jax.Array:
    """Return (B, N, M) bool, what is given in training of what is present.

    Half of the conversations miss the same modalities in every utterance, half miss them by
    utterance at a rate of their own. At least one is always kept.
    """
    conversations, count, modalities = present.shape
    key_kind, key_pattern, key_rate, key_entry, key_kept = jax.random.split(key, 5)
    incomplete = jnp.asarray(patterns(modalities)[:-1])
    chosen = jax.random.randint(key_pattern, (conversations,), 0, len(incomplete))
    rate = jax.random.uniform(key_rate, (conversations, 1, 1))
    entries = jax.random.uniform(key_entry, (conversations, count, modalities)) > rate
    kept = jax.random.randint(key_kept, (conversations, count), 0, modalities)
    entries = entries | (jnp.arange(modalities) == kept[..., None])
    alike = jax.random.bernoulli(key_kind, 0.5, (conversations, 1, 1))
    return hidden(jnp.where(alike, incomplete[chosen][:, None], entries), present)


@shared
def score_loss(modules: GraphModules, weighting: str) -> Loss:
    """Return L_s of features and graphs (eq. 11).

    data: {'row' (B,) of 'all' (`Prepared`), 'scale'}.
    """

    def loss(params, data, weight, key, frames):
        key_mask, key = jax.random.split(key)
        batch = data["all"].at(data["row"], frames)
        observed = training_mask(key_mask, batch.present)
        about = (batch.graphs, batch.x, observed, batch.present, data["scale"])
        losses = score_losses(modules, params, *about, key, weighting)
        return weighted_mean(sum(losses), weight)

    return loss


@shared
def energy_loss(modules: GraphModules, grid: tuple[float, ...], draws: int, beta: float) -> Loss:
    """Return the energy score of conversations that are drawn by steps of DDIM; see
    `latent.students.energy`.

    Features and graphs together, and graphs by themselves, since they are few numbers among many.

    Args:
      grid: the times of the steps. draws: of each conversation. beta: of `energy_score`.

    data: as of `score_loss`.
    """
    step = functools.partial(registry.make, "ddim", modules.sde)

    def loss(params, data, weight, key, frames):
        key_mask, key = jax.random.split(key)
        batch = data["all"].at(data["row"], frames)
        observed = training_mask(key_mask, batch.present)
        about = (data["scale"], batch.present)
        given = shown(modules.state, batch.graphs, batch.x, observed, *about)
        true = shown(modules.state, batch.graphs, batch.x, batch.present, *about)
        graphs, repeated = jax.tree.map(lambda a: jnp.repeat(a, draws, 0), (batch.graphs, given))
        noise_fn = joint_noise(modules, params, graphs, repeated)
        truth = joined(modules, true.x, true.partial)
        shape = (len(observed) * draws, *truth.shape[1:])
        drawn = modules.sde.prior_std * jax.random.normal(key, shape)
        for start, end in itertools.pairwise(grid):
            drawn = step(noise_fn).step(drawn, jnp.float32(start), jnp.float32(end), None)
        drawn = drawn.reshape(-1, draws, *truth.shape[1:])
        entries = modules.state.entries(batch.graphs, given.kept)
        wide = jnp.broadcast_to(given.drawn[..., None], true.x.shape)
        counted, size = joined(modules, wide, entries), true.x[0, 0].size
        scores = score(drawn, truth, counted)
        if modules.graph is not None:
            scores = scores + score(drawn[..., size:], truth[..., size:], counted[..., size:])
        return weighted_mean(scores, weight)

    def score(drawn, truth, counted):
        batch = len(truth)
        flat = drawn.reshape(batch, draws, -1, 1), truth.reshape(batch, -1, 1)
        return energy_score(*flat, counted.reshape(batch, -1), beta)

    return loss


@shared
def completion_loss(predictor: Predictor, task: Task, fill: str, beta: float = 0.0) -> Loss:
    """Return L_pred + beta L_rec (eq. 20) over utterances.

    Args:
      task: of `mmdjax.tasks`, whose loss L_pred is.
      fill: 'complete', 'mean', or 'draws', whose sets `data` then holds.
      beta: of draws.

    data: {'row' (B,) of 'all' (`Prepared`), 'back', 'scale', 'labelled' (mean number of a
    conversation's utterances with a label), and of draws 'sets' (`Sets`) in place of 'row'}.
    """

    def loss(params, data, weight, key, frames):
        key_mask, key_drop = jax.random.split(key)
        scale, n = data["scale"], slice(frames)
        if fill == "draws":
            sets = data["sets"]
            batch = data["all"].at(sets.conversation, frames)
            observed, x = sets.observed[:, n], sets.x[:, n]
            graphs = predictor.state.resized(sets.graphs, frames)
        else:
            batch = data["all"].at(data["row"], frames)
            observed = batch.present
            if fill == "mean":
                observed = training_mask(key_mask, batch.present)
            given = shown(predictor.state, batch.graphs, batch.x, observed, scale)
            x, graphs = given.x, given.partial
        result = completed(
            predictor,
            params,
            batch,
            observed,
            x,
            graphs,
            scale,
            data["back"],
            deterministic=False,
            rngs={"dropout": key_drop},
        )
        error = jnp.where(batch.graphs.valid, task.losses(result.output, batch.label), 0.0)
        # Utterances count alike, in long conversations and in short ones.
        total = error.sum(1) / data["labelled"]
        if fill == "draws":
            total = total + beta * reconstruction_error(predictor, batch, observed, result, scale)
        return weighted_mean(total, weight)

    return loss


def reconstruction_error(
    predictor: Predictor,
    batch: Prepared,
    observed: jax.Array,
    result: Completed,
    scale: jax.Array | float,
) -> jax.Array:
    """Return L_rec (eq. 17), (B,): mean squares over what is hidden of features and of graphs."""
    state = predictor.state
    given = shown(state, batch.graphs, batch.x, observed, scale, batch.present)
    true = shown(state, batch.graphs, batch.x, batch.present, scale)

    def mean(square, mask):
        axes = tuple(range(1, mask.ndim))
        return jnp.where(mask, square, 0.0).sum(axes) / jnp.maximum(mask.sum(axes), 1)

    of_features = mean(((result.x - true.x) ** 2).mean(-1), given.drawn)
    entries = state.entries(batch.graphs, given.kept)
    return of_features + mean((result.graphs - true.partial) ** 2, entries)
