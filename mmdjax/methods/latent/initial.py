"""Initial parameters: one trace for equal modules, evaluated without compiling it."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import numpy as np

from mmdjax.methods.latent.modules import others
from mmdjax.runtime.compilation import shared
from mmdjax.runtime.on_host import OnHost


@shared
def initial(module: nn.Module) -> OnHost:
    """A module's init; equal modules of several systems share their traces."""
    return OnHost(module.init)


@shared
def initial_score(score: nn.Module) -> OnHost:
    """key -> parameters of the score networks, stacked over M."""
    modalities, ids = score.modalities, others(score.modalities)[0]
    x = np.zeros((1, modalities, score.frames, score.channels), np.float32)
    valid = np.ones(x.shape[:3], bool)
    rows = (x[:, 0], np.ones(1, np.float32), x[:, ids], ids, valid[:, 0], valid[:, ids])

    def init(key):
        return jax.vmap(lambda k: score.init(k, *rows))(jax.random.split(key, modalities))

    return OnHost(init)


@shared
def initial_decoder(decoder: nn.Module) -> OnHost:
    """(key, x (1, M, T, D), valid (1, M, T)) -> parameters, stacked over M."""

    def init(key, x, valid):
        keys = jax.random.split(key, x.shape[1])
        return jax.vmap(lambda k: decoder.init(k, x[:, 0], valid[:, 0]))(keys)

    return OnHost(init)


def score_shapes(score: nn.Module) -> Any:
    """Shapes of `initial_score`; traced once, whoever asks."""
    return initial_score(score).shapes(jax.eval_shape(lambda: jax.random.key(0)))
