"""Classifier guidance through the fusion head: draws that speak for a given label.

For what a researcher asks of a model ("the same voice, but happier"), not for prediction, where
the label is what is sought.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mmdjax.methods.latent.cover import filled_valid
from mmdjax.methods.latent.modules import Modules, Scale, predict
from mmdjax.types import Params


def label_log_prob(
    modules: Modules,
    params: Params,
    scale: Scale,
    z: jax.Array,
    valid: jax.Array,
    observed: jax.Array,
    target: int,
    label: jax.Array | float,
    std: float = 0.5,
) -> Callable[[jax.Array], jax.Array]:
    """log p(label | completed set) up to a constant: a Gaussian around the fusion's prediction.

    Give it to `diffusion.guidance.classifier` by way of `through_clean`: fusion knows clean
    latents.

    Args:
      params: {'fusion': ..., 'decoder': ... or absent}.
      z: (B, M, T, D) standardised latents; what is drawn takes the place of modality `target`,
        every other modality has to be there already.
      valid: (B, M, T); observed: (B, M), False at `target`.
      label: () or (B,) wanted prediction. std: how near it should come.

    Returns:
      (x (B, T, D)) -> (B,).
    """
    mask = filled_valid(jnp.asarray(valid), jnp.asarray(observed))

    def log_prob(x):
        x = jnp.where(mask[:, target, :, None], x, 0.0)
        completed = jnp.asarray(z).at[:, target].set(x)
        prediction = predict(modules, params, scale, completed, mask, jnp.asarray(observed))[:, 0]
        return -0.5 * ((prediction - label) / std) ** 2

    return log_prob
