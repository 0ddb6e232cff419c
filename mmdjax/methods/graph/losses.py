"""The losses of GSDNet's phases, as `training.step` takes them (see `methods/latent/losses.py`)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from mmdjax.data.missing.patterns import patterns
from mmdjax.methods.graph.diffusion import GraphModules, hidden, score_losses, shown
from mmdjax.methods.gsdnet import VARIANTS, Predictor, Prepared, completed
from mmdjax.methods.latent.losses import weighted_mean
from mmdjax.runtime.compilation import shared


def training_mask(key, conversations: int, count: int, modalities: int):
    """(B, N, M) bool, what is given in training: half of the conversations miss the same modalities
    in every utterance, half miss them by utterance at a rate of their own. One is always kept."""
    key_kind, key_pattern, key_rate, key_entry, key_kept = jax.random.split(key, 5)
    incomplete = jnp.asarray(patterns(modalities)[:-1])
    chosen = jax.random.randint(key_pattern, (conversations,), 0, len(incomplete))
    rate = jax.random.uniform(key_rate, (conversations, 1, 1))
    entries = jax.random.uniform(key_entry, (conversations, count, modalities)) > rate
    kept = jax.random.randint(key_kept, (conversations, count), 0, modalities)
    entries = entries | (jnp.arange(modalities) == kept[..., None])
    alike = jax.random.bernoulli(key_kind, 0.5, (conversations, 1, 1))
    return jnp.where(alike, incomplete[chosen][:, None], entries)


@shared
def score_loss(modules: GraphModules, weighting: str):
    """L_s of features and graphs; data: {'row' (B,) of 'all' (`Prepared`), 'scale'}."""

    def loss(params, data, weight, key, frames):
        key_mask, key = jax.random.split(key)
        found = data["all"].at(data["row"], frames)
        observed = training_mask(key_mask, *found.x.shape[:3])
        losses = score_losses(
            modules, params, found.graphs, found.x, observed, data["scale"], key, weighting
        )
        return weighted_mean(sum(losses), weight)

    return loss


def prediction_error(outputs, label, classes: int):
    """(..., outputs), (...) -> (...): L1 of sentiment, or cross entropy."""
    if classes:
        return optax.softmax_cross_entropy_with_integer_labels(outputs, label.astype(jnp.int32))
    return jnp.abs(outputs[..., 0] - label)


@shared
def completion_loss(predictor: Predictor, fill: str, classes: int, beta: float):
    """L_pred + beta L_rec over utterances.

    Args:
      fill: 'complete', 'mean', or a variant, whose sets `data` then holds.
    data: {'row' (B,) of 'all' (`Prepared`), 'back', 'scale', 'utterances' (mean of a conversation),
    and for variants 'sets' (`Sets`) in place of 'row'}.
    """

    def loss(params, data, weight, key, frames):
        key_mask, key_drop = jax.random.split(key)
        scale, n = data["scale"], slice(frames)
        if fill in VARIANTS:
            sets = data["sets"]
            found = data["all"].at(sets.conversation, frames)
            observed, x = sets.observed[:, n], sets.x[:, n]
            graphs = predictor.state.resized(sets.graphs, frames)
        else:
            found = data["all"].at(data["row"], frames)
            observed = jnp.ones(found.x.shape[:3], bool)
            if fill == "mean":
                observed = training_mask(key_mask, *found.x.shape[:3])
            known = shown(predictor.state, found.graphs, found.x, observed, scale)
            x, graphs = known.x, known.partial
        made = completed(
            predictor, params, found, observed, x, graphs, scale, data["back"],
            deterministic=False, rngs={"dropout": key_drop},
        )  # fmt: skip
        valid = found.graphs.valid
        error = jnp.where(valid, prediction_error(made.prediction, found.label, classes), 0.0)
        total = error.sum(1) / data["utterances"]
        if "features" in params:
            total = total + beta * reconstruction_error(predictor, found, observed, made, scale)
        return weighted_mean(total, weight)

    return loss


def reconstruction_error(predictor: Predictor, found: Prepared, observed, made, scale):
    """L_rec (eq. 17), (B,): mean squares over what is hidden of the features and of the graphs."""
    state, everything = predictor.state, jnp.ones_like(observed)
    known = shown(state, found.graphs, found.x, observed, scale)
    true = shown(state, found.graphs, found.x, everything, scale)

    def mean(square, mask):
        axes = tuple(range(1, mask.ndim))
        return jnp.where(mask, square, 0.0).sum(axes) / jnp.maximum(mask.sum(axes), 1)

    square = ((made.x - true.x) ** 2).mean(-1)
    return mean(square, hidden(found.graphs, known)) + mean(
        (made.graphs - true.partial) ** 2, state.entries(found.graphs, known.whole)
    )
