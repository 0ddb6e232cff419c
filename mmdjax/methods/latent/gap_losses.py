"""Training of networks with frames missing inside what is shown (thesis, future work 2).

Modalities that a network is shown lose frames at random, the target among them, and what remains
is a condition: clean latents where every frame under them is observed, and beside them latents that
rest on a part of their frames, told apart by their id (`ScoreTransformer1D.encode`). What is drawn
are the target's frames that are not known wholly. So the network learns the conditional law given
any set of frames, which holding known frames in a draw only approximates (`diffusion/held.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtri

from mmdjax.methods.latent.cover import filled_valid
from mmdjax.methods.latent.losses import holes, noisy, weighted_mean, with_teacher
from mmdjax.methods.latent.modules import Modules, encode_gaps
from mmdjax.networks.encoders import WHOLE
from mmdjax.runtime.compilation import shared
from mmdjax.types import hidden

if TYPE_CHECKING:
    from mmdjax.training.step import Loss


def random_gaps(key: jax.Array, batch: int, frames: int) -> jax.Array:
    """(B, T_m) bool, True is observed: frames are missing alone, in bursts or in blocks.

    They are where a stationary Gaussian process of covariance exp(-|s - t| / l) lies below the
    quantile of the row's missing rate, uniform in (0.05, 0.95); l is log-uniform from a third of a
    frame, which makes them nearly independent, to all frames.
    """
    keys = jax.random.split(key, 3)
    rate = jax.random.uniform(keys[0], (batch, 1), minval=0.05, maxval=0.95)
    exponent = jax.random.uniform(keys[1], (batch, 1))
    memory = jnp.exp(-1 / (jnp.float32(frames * 3) ** exponent / 3))
    noise = jax.random.normal(keys[2], (frames, batch, 1))

    def step(before, new):
        now = memory * before + jnp.sqrt(1 - memory**2) * new
        return now, now

    process = jax.lax.scan(step, noise[0], noise[1:])[1]
    process = jnp.concatenate([noise[:1], process])[..., 0].T
    return process > ndtri(rate)


@shared
def given_gaps(modules: Modules, error: Callable, gaps: float, noise: float = 0.0) -> Loss:
    """Return the loss that is the mean of an error over modalities, each given what random gaps
    leave of all of them.

    Args:
      error, noise: of `losses.given_others`.
      gaps: probability that a modality that is shown lacks frames, and that the target's remaining
        frames are shown.

    data: {'features': {m: (B, T_m, C_m)}, 'valid': {m: (B, T_m)}}; for all rows 'encoders' and
    'scale'. Parameters are stacked over M.
    """
    names = modules.encoders.modalities

    def loss(params, data, weight, key, frames):
        features, exists = data["features"], data["valid"]
        batch, modalities = len(weight), len(names)
        rows = (data["encoders"], data["scale"], features, exists)
        z, whole = (a[:, :, :frames] for a in encode_gaps(modules, *rows, exists))
        key_gaps, key_targets = jax.random.split(key)
        observed = {
            m: random_gaps(jax.random.fold_in(key_gaps, i), batch, exists[m].shape[1])
            for i, m in enumerate(names)
        }
        part, rests_on = (a[:, :, :frames] for a in encode_gaps(modules, *rows, observed))
        valid = whole == WHOLE
        present = valid.any(-1)

        def of_target(params, target, key):
            keys = jax.random.split(key, 6)
            itself = jnp.arange(modalities) == target
            gappy = jax.random.bernoulli(keys[3], gaps, (batch, modalities))
            # The target whole would leave nothing to draw: shown in part, or not at all.
            subset = jax.random.bernoulli(keys[4], 0.5, (batch, modalities))
            kept = jnp.where(itself, gappy, subset)
            fallback = jax.random.randint(keys[5], (batch,), 1, modalities) + target
            one = jnp.arange(modalities) == (fallback % modalities)[:, None]
            one = hidden(one, present & ~itself)
            kept = jnp.where((kept & present).any(1, keepdims=True), kept, one)
            cover = jnp.where(gappy[..., None], rests_on, whole)
            cover = jnp.where(kept[..., None], cover, 0)
            condition = noisy(jnp.where((cover == WHOLE)[..., None], z, part), noise, keys[2])
            partial = (cover > 0) & (cover < WHOLE)
            condition_id = jnp.arange(modalities)[:, None] + modalities * partial
            known = (cover > 0).any(-1)
            mask = filled_valid(valid, known)[:, target] & (cover[:, target] < WHOLE)
            alone = ~(kept & present).any(1)[:, None]  # it learns the marginal, as there
            mask = jnp.where(alone, valid[:, target], mask) & ~holes(valid[:, target])
            shown = (condition, condition_id, cover > 0)
            errors = error(params, z[:, target], mask, *shown, keys[:3])
            return weighted_mean(errors, weight * present[:, target])

        keys, own = jax.random.split(key_targets, modalities), with_teacher(params, data)
        return jax.vmap(of_target)(own, jnp.arange(modalities), keys).mean()

    return loss
