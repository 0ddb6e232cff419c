"""The parts of the two-stage system, joined: modules, SDE, and the laws of completing a set.

Latents are standardised per modality and channel (`Scale`) between the encoders and the fusion:
score matching on raw latents would let an encoder collapse, and VP needs unit variance.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmdjax.diffusion import sde as sdes
from mmdjax.diffusion.predictions import scaled
from mmdjax.networks import score_networks
from mmdjax.networks.alignment import AlignmentDecoder
from mmdjax.networks.base import Encoded
from mmdjax.networks.encoders import Encoders, coverage
from mmdjax.networks.fusion import MulT
from mmdjax.networks.pooled import PooledMLP
from mmdjax.types import Params

if TYPE_CHECKING:
    from mmdjax.methods.settings import Fusion


class Scale(NamedTuple):
    """mean, std (M, D) of the training split's valid latent frames."""

    mean: np.ndarray
    std: np.ndarray


class Modules(NamedTuple):
    encoders: Encoders
    fusion: nn.Module
    score: nn.Module
    decoder: AlignmentDecoder
    sde: sdes.SDE


def build(config: Any, modalities: tuple[str, ...], outputs: int = 1) -> Modules:
    """Return the modules of `mmdjax.config.Config`; everything below takes plain numbers.

    Args:
      outputs: size of the head, see `mmdjax.tasks`.
    """
    fusion, score, decoder = config.fusion, config.score, config.decoder
    sizes = score_networks.fields(score.network)
    settings = dataclasses.asdict(score) | {"gaps": config.diffusion.frame_gaps > 0}
    return Modules(
        Encoders(
            modalities, config.latents.frames, config.latents.channels, config.latents.dropout
        ),
        fusion_of(fusion, outputs),
        score_networks.REGISTRY[score.network](
            len(modalities),
            config.latents.frames,
            config.latents.channels,
            **{k: v for k, v in settings.items() if k in sizes},
        ),
        AlignmentDecoder(decoder.channels, decoder.blocks, decoder.reduction),
        sdes.REGISTRY[config.diffusion.sde](),
    )


def networks_alone(modules: Modules) -> Modules:
    """Return the score networks and the SDE: what is compiled of them alone is shared by systems
    that differ elsewhere."""
    return modules._replace(encoders=None, fusion=None, decoder=None)


def fusion_of(fusion: Fusion, outputs: int) -> nn.Module:
    """Return the network of `methods.settings.Fusion`: (x (B, M, T, D), valid (B, M, T),
    deterministic, observed (B, M)) -> (B, outputs)."""
    common = {"dropout": fusion.dropout, "outputs": outputs, "told": fusion.told}
    if fusion.network == "pooled":
        return PooledMLP(fusion.layers, fusion.width, **common)
    sizes = fusion.layers, fusion.heads
    return MulT(*sizes, attention_dropout=fusion.attention_dropout, **common)


def encode_gaps(
    modules: Modules,
    encoders: Params,
    scale: Scale,
    features: Mapping[str, jax.Array],
    valid: Mapping[str, jax.Array],
    observed: Mapping[str, jax.Array],
) -> tuple[jax.Array, jax.Array]:
    """Standardised latents of what is observed, and what they rest on.

    Args:
      features[m] (B, T_m, C_m), valid[m], observed[m] (B, T_m).

    Returns:
      (B, M, T, D), 0 where nothing is observed; (B, M, T) of `encoders.coverage`.
    """
    names, frames = modules.encoders.modalities, modules.encoders.frames
    shown = {m: valid[m] & observed[m] for m in names}
    x, seen = modules.encoders.apply(encoders, features, shown)
    z = jnp.where(seen[..., None], (x - scale.mean[:, None]) / scale.std[:, None], 0.0)
    return z, jnp.stack([coverage(valid[m], observed[m], frames) for m in names], 1)


def encode_condition(modules: Modules, params: Params, *condition: jax.Array) -> Encoded | None:
    """What every evaluation of a draw shares, see `ScoreTransformer1D.encode`."""
    return modules.score.apply(params, *condition, method="encode")


def predict_noise(
    modules: Modules,
    params: Params,
    x: jax.Array,
    t: jax.Array,
    encoded: Encoded | None,
    mask: jax.Array,
    level: int = 0,
) -> jax.Array:
    """Noise prediction (B, T, D); the network sees x at unit variance and predicts v of
    `diffusion/predictions.py`, so that one network serves every SDE.

    Args:
      params: of one modality's score network.
      x, t, encoded, mask, level: see `ScoreTransformer1D.denoise`.
    """
    x, alpha, std = scaled(modules.sde, x, t)
    given = (x, t, encoded, mask, level) if level else (x, t, encoded, mask)
    return alpha * modules.score.apply(params, *given, method="denoise") + std * x


def others(modalities: int) -> np.ndarray:
    """(M, M - 1): for each modality the indices of the other ones."""
    return np.array([[j for j in range(modalities) if j != i] for i in range(modalities)])


def raw(z: jax.Array, valid: jax.Array, scale: Scale) -> jax.Array:
    """Standardised latents z (..., M, T, D) -> what the fusion was trained on, 0 off `valid`."""
    x = z * scale.std[:, None] + scale.mean[:, None]
    return jnp.where(valid[..., None], x, 0.0)


def align(
    decoder: AlignmentDecoder, params: Params, z: jax.Array, valid: jax.Array, observed: jax.Array
) -> jax.Array:
    """Missing modalities through their own decoder; observed ones as they are.

    Args:
      params: decoder parameters stacked over M, or None for no decoder.
      z: (B, M, T, D); valid: (B, M, T); observed: (B, M).
    """
    if params is None:
        return z
    decoded = jax.vmap(decoder.apply, in_axes=(0, 1, 1), out_axes=1)(params, z, valid)
    return jnp.where(observed[..., None, None], z, decoded)


def predict(
    modules: Modules,
    params: Params,
    scale: Scale,
    z: jax.Array,
    valid: jax.Array,
    observed: jax.Array,
) -> jax.Array:
    """Return outputs (B, outputs) from completed standardised latents.

    Args:
      params: {'fusion': ..., 'decoder': ... or absent}.
      z: (B, M, T, D), filled where not observed.
      valid: (B, M, T) from `filled_valid`.
      observed: (B, M).
    """
    z = align(modules.decoder, params.get("decoder"), z, valid, observed)
    given = raw(z, valid, scale), valid
    return modules.fusion.apply(params["fusion"], *given, observed=observed)
