"""The three losses of the two stages, as `training.step` takes them.

Each is (params, data, weight, key, frames) -> scalar, the sum over rows of weight 1 (padding has 0)
over the batch's size. data: a batch of rows, and what is common to all, by name; `frames` cuts the
latents' time axis to a bucket that holds every row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmdjax.diffusion import conditioning
from mmdjax.diffusion.losses import WEIGHTS, denoising_score_matching, training_times
from mmdjax.diffusion.predictions import scaled
from mmdjax.methods.latent.cover import filled_valid
from mmdjax.methods.latent.modules import (
    Modules,
    align,
    encode_condition,
    others,
    predict_noise,
    raw,
)
from mmdjax.networks.encoders import noisy_features
from mmdjax.runtime.compilation import shared
from mmdjax.types import Batch, Params, hidden

if TYPE_CHECKING:
    from mmdjax.networks.alignment import AlignmentDecoder
    from mmdjax.networks.encoders import Encoders, Reconstruction, UnimodalHeads
    from mmdjax.tasks import Task
    from mmdjax.training.step import Loss


def weighted_mean(values: jax.Array, weight: jax.Array) -> jax.Array:
    """Over the batch's size, padding included: a row weighs the same in a short last batch."""
    return (values * weight).sum() / weight.size


def utterance_rows(batch: Batch) -> dict:
    """What `classifier_loss` reads of a split, one entry an utterance."""
    features, valid = dict(batch.features), dict(batch.valid)
    return {"features": features, "valid": valid, "label": np.asarray(batch.label)}


@shared
def classifier_loss(
    encoders: Encoders,
    fusion: nn.Module,
    task: Task,
    reconstruction: Reconstruction | None = None,
    noise: tuple[float, ...] = (),
    heads: UnimodalHeads | None = None,
    unimodal: float = 0.0,
) -> Loss:
    """Return the loss of stage 1a: encoders and fusion on what there is (thesis eq. 5.22).

    What an utterance lacks by nature is zero, with the frames of the modalities that it has.

    Args:
      task: of `mmdjax.tasks`, whose loss it is.
      reconstruction: `networks.encoders.Reconstruction`, by which the encoders learn from
        utterances without a label, too; None for labels alone.
      noise: deviation of what is added to features, of each modality; () for none.
      heads: `networks.encoders.UnimodalHeads`, whose loss has the weight `unimodal`; None for none.

    data: {'features': {m: (B, T_m, C_m)}, 'valid': {m: (B, T_m)}, 'label': (B,)}; with
    `reconstruction` for all rows 'labelled', the share of rows with a label, and 'weight'.
    """

    def loss(params, data, weight, key, frames):
        key_encoder, key_fusion = jax.random.split(key)
        features, there = data["features"], data["valid"]
        if noise:
            key_noise = jax.random.fold_in(key, 2)
            features, there = noisy_features(features, there, noise, key_noise, encoders.frames)
        x, valid = encoders.apply(
            params["encoders"],
            features,
            there,
            deterministic=False,
            rngs={"dropout": key_encoder},
        )
        seen, valid = x[:, :, :frames], valid[:, :, :frames]
        output = fusion.apply(
            params["fusion"],
            seen,
            filled_valid(valid, valid.any(-1)),
            deterministic=False,
            rngs={"dropout": key_fusion},
        )
        total = task.mean_loss(output, data["label"], weight)
        if heads is not None:
            each = heads.apply(params["heads"], seen, valid)
            for alone, there in zip(each, valid.any(-1).T, strict=True):
                loss_alone = task.mean_loss(alone, data["label"], weight * there)
                total = total + unimodal / len(each) * loss_alone
        if reconstruction is None:
            return total
        whole = x, data["features"], data["valid"]
        error = reconstruction.apply(params["reconstruction"], *whole)
        return total / data["labelled"] + data["weight"] * weighted_mean(error, weight)

    return loss


def random_conditions(key: jax.Array, present: jax.Array) -> jax.Array:
    """(B, C) bool: uniform over the non-empty subsets of C conditions, of what is present (B, C);
    all of it where the subset has none, and nothing where nothing is."""
    batch, conditions = present.shape
    subset = jax.random.randint(key, (batch,), 1, 2**conditions)
    return hidden((subset[:, None] >> jnp.arange(conditions)) % 2 == 1, present)


@shared
def score_loss(
    modules: Modules,
    weighting: str = "v",
    conditions: str = "clean",
    unconditional: float = 0.0,
    noise: float = 0.0,
) -> Loss:
    """Stage 1b: denoising score matching for every modality at once, given random conditions.

    Args:
      weighting: of `diffusion.losses.WEIGHTS`.
      conditions: of `diffusion.conditioning.MODES`, as in sampling. The thesis noises them, in
        training with the target's noise; the default leaves them clean.
      unconditional: probability that a row has no condition at all, for guidance.
      noise: deviation of what is added to conditions, see `noisy`.

    data: see `given_others`.
    """
    return given_others(matching(modules, weighting, conditions, unconditional), noise)


@shared
def given_others(error: Callable, noise: float = 0.0) -> Loss:
    """Return the loss that is the mean of an error over modalities, each given random others.

    Args:
      error: (params, x0 (B, T, D), mask (B, T) frames to draw, condition, condition_id,
        condition_mask of `encode_condition`, keys (3,)) -> (B,). params: of one modality's network;
        with a 'teacher' in data, of both: (network, teacher).
      noise: deviation of what is added to conditions, see `noisy`.

    data: {'z': (B, M, T, D), 'valid': (B, M, T)}. Parameters are stacked over M. A network learns
    from rows that have its modality, given any of what else they have.
    """

    def loss(params, data, weight, key, frames):
        z, valid = data["z"][:, :, :frames], data["valid"][:, :, :frames]
        modalities, present = z.shape[1], valid.any(-1)

        def of_target(params, target, condition_id, key):
            keys = jax.random.split(key, 3)
            kept = random_conditions(keys[0], present[:, condition_id])
            condition_mask = valid[:, condition_id] & kept[..., None]
            # As in sampling: the target's frames are those of what it is conditioned on; its own
            # where it stands alone, and then the network learns its marginal.
            alone = ~kept.any(1)[:, None]
            mask = jnp.where(alone, valid[:, target], condition_mask.any(1))
            mask = mask & ~holes(valid[:, target])
            x0, condition = z[:, target], noisy(z[:, condition_id], noise, keys[2])
            errors = error(params, x0, mask, condition, condition_id, condition_mask, keys)
            return weighted_mean(errors, weight * present[:, target])

        own = with_teacher(params, data)
        return jax.vmap(of_target)(
            own, jnp.arange(modalities), others(modalities), jax.random.split(key, modalities)
        ).mean()

    return loss


def with_teacher(params: Params, data: Mapping[str, Any]) -> Params:
    """Return params, beside those of the teacher where the data have one."""
    return (params, data["teacher"]) if "teacher" in data else params


@shared
def matching(
    modules: Modules, weighting: str, conditions: str, unconditional: float
) -> Callable[..., jax.Array]:
    """Return the error of denoising score matching at random times, see `given_others`.

    Frames of the mask that the target lacks (unequal lengths) are learned as 0, since sampling,
    which must not know the target's length, draws them too.
    """

    def error(params, x0, mask, condition, condition_id, condition_mask, keys):
        batch = len(x0)
        if unconditional:
            key_drop = jax.random.fold_in(keys[0], 1)
            dropped = jax.random.bernoulli(key_drop, unconditional, (batch, 1, 1))
            condition_mask = condition_mask & ~dropped
        t = training_times(keys[1], batch, modules.sde)
        noise = jax.random.normal(keys[2], x0.shape)
        key_condition = jax.random.fold_in(keys[2], 1)
        shown = conditioning.in_training(
            conditions, modules.sde, condition, t, noise[:, None], key_condition
        )
        if conditions != "clean":
            shown = scaled(modules.sde, shown, t)[0]
        encoded = encode_condition(modules, params, shown, condition_id, condition_mask)

        def noise_fn(x, t):
            return predict_noise(modules, params, x, t, encoded, mask)

        return denoising_score_matching(
            noise_fn, modules.sde, x0, mask, t, noise, WEIGHTS[weighting]
        )

    return error


def noisy(condition: jax.Array, noise: float, key: jax.Array) -> jax.Array:
    """Return standardised conditions with Gaussian noise of this deviation added.

    A regulariser of small sets, whose score networks otherwise learn their rows by heart
    (conditioning augmentation of Ho et al., "Cascaded Diffusion Models", 2022, section 4).
    Draws are given clean conditions: with noise on them they would be of a wider law.
    """
    if not noise:
        return condition
    return condition + noise * jax.random.normal(jax.random.fold_in(key, 2), condition.shape)


def holes(valid: jax.Array) -> jax.Array:
    """Return the frames that are not known but come before one that is, (..., T) bool."""
    later = jax.lax.cummax(valid.astype(jnp.int8), valid.ndim - 1, reverse=True) > 0
    return later & ~valid


def completion_loss(
    decoder: AlignmentDecoder | None,
    fusion: nn.Module,
    task: Task,
    fill: str,
    align_weight: float,
    noise: float = 0.0,
) -> Loss:
    """Stage 2: fusion, and the decoder where there are draws, under missing modalities.

    L_task + lambda L_align (thesis eq. 5.23). Each row takes one of its R incomplete sets, or with
    probability 1 / P the complete one where it has all, P the number of availability patterns.

    Args:
      task: of `mmdjax.tasks`, whose loss L_task is.
      fill: 'draws' (with the decoder), or 'constant'.
      noise: deviation of what is added to latents.

    data: {'z', 'valid', 'label', 'observed' (B, R, M), 'fill' (B, R, M, T, D) of draws}; for all
    rows 'scale', and a constant 'fill' (M, D), which is all that 'zero' and 'mean' differ in: they
    get one loss.
    """
    if fill == "draws":
        return _completion_loss(decoder, fusion, task, True, align_weight, noise)
    return _completion_loss(None, fusion, task, False, 0.0, noise)


@shared
def _completion_loss(
    decoder: AlignmentDecoder | None,
    fusion: nn.Module,
    task: Task,
    drawn: bool,
    align_weight: float,
    noise: float,
) -> Loss:
    def loss(params, data, weight, key, frames):
        z, valid = data["z"][:, :, :frames], data["valid"][:, :, :frames]
        batch, modalities = z.shape[:2]
        keys = jax.random.split(key, 3)
        round_ = jax.random.randint(keys[0], (batch,), 0, data["observed"].shape[1])
        complete = jax.random.bernoulli(keys[1], 1 / (2**modalities - 1), (batch,))
        of_round = jax.vmap(lambda a, r: a[r])  # row by row: no device asks for another's rows
        complete = complete & valid.any(-1).all(-1)
        observed = of_round(data["observed"], round_) | complete[:, None]
        if drawn:
            filler = of_round(data["fill"][:, :, :, :frames], round_)
        else:
            filler = data["fill"][:, None]
        filled = jnp.where(observed[..., None, None], z, filler)
        mask = filled_valid(valid, observed)
        if drawn:
            filled = align(decoder, params.get("decoder"), filled, mask, observed)
        given = filled
        if noise:
            given = filled + noise * jax.random.normal(jax.random.fold_in(key, 2), filled.shape)
        output = fusion.apply(
            params["fusion"],
            raw(given, mask, data["scale"]),
            mask,
            deterministic=False,
            observed=observed,
            rngs={"dropout": keys[2]},
        )
        total = task.mean_loss(output, data["label"], weight)
        if not drawn:
            return total
        counted = (mask & valid & ~observed[..., None])[..., None]
        error = jnp.where(counted, jnp.abs(filled - z), 0.0).sum((1, 2, 3))
        alignment = error / jnp.maximum(counted.sum((1, 2, 3)) * z.shape[-1], 1)
        return total + align_weight * weighted_mean(alignment, weight)

    return loss
