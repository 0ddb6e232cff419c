"""Score networks that learn from incomplete utterances, against the exact conditional laws.

Small linear latents of the synthetic set are a Gaussian mixture, so that the law of any modality
given any others is known. Of 0.15 complete utterances and others with a random incomplete pattern,
0.29 have any two modalities: a network learns from so many times more steps as much as one that is
given complete utterances, and is held to what that one reaches. One that took zeros for what is
missing has slopes of 0.3 to 0.5.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmdjax import config as configs
from mmdjax.data.missing.natural import incomplete
from mmdjax.data.missing.patterns import pattern_name, patterns
from mmdjax.data.sources.mixture import Mixture
from mmdjax.data.sources.synthetic import Law
from mmdjax.methods.latent.draw import make_drawer
from mmdjax.methods.latent.initial import initial_score
from mmdjax.methods.latent.losses import score_loss
from mmdjax.methods.latent.modules import build
from mmdjax.methods.latent.work_list import draw_missing
from tests.numerics import exact_laws

NAMES, CHANNELS = ("language", "acoustic", "vision"), 2
ROWS, DRAWN, BATCH, STEPS = 40_000, 4000, 256, 1200
COMPLETE = 0.15
PAIRS = COMPLETE + (1 - COMPLETE) / 6  # the share of utterances with any two modalities
CONFIG = {
    "latents": {"frames": 1, "channels": CHANNELS},
    "data": {"length_buckets": (1,)},
    "score": {"width": 32, "layers": 1, "heads": 4, "mlp": 64, "time_features": 32},
    "fusion": {"layers": 1, "heads": 2},
    "diffusion": {"nfe": 20},
}


class Truth(NamedTuple):
    """Latents z (N, 3, 1, D), which utterances have a modality, and the law of z (N, 3 D)."""

    train: np.ndarray
    present: np.ndarray
    test: np.ndarray
    law: Mixture


@pytest.fixture(scope="module")
def truth() -> Truth:
    """Of each modality the directions that tell most of the others, at unit variance."""
    source = Law(0)
    train, test = source.sample(ROWS, 1, "train"), source.sample(DRAWN, 2, "test")
    weight, mean, cov = source.mixture.weight, source.mixture.mean, source.mixture.cov
    gap = mean - weight @ mean
    total = np.einsum("g,gpq->pq", weight, cov) + np.einsum("g,gp,gq->pq", weight, gap, gap)
    encode, columns = np.zeros((total.shape[0], 3 * CHANNELS)), source.indices(NAMES)
    for i, name in enumerate(NAMES):
        own = source.indices([name])
        factor = np.linalg.cholesky(np.linalg.inv(total[np.ix_(own, own)]))
        across = factor.T @ total[np.ix_(own, np.setdiff1d(columns, own))]
        white = factor @ np.linalg.svd(across)[0][:, :CHANNELS]
        encode[own, i * CHANNELS : (i + 1) * CHANNELS] = white
    offset = weight @ mean @ encode
    law = Mixture(weight, mean @ encode - offset, encode.T @ cov @ encode)

    def latents(batch):
        z = source.flatten(batch.features, NAMES) @ encode[columns] - offset
        return z.reshape(-1, 3, 1, CHANNELS).astype(np.float32)

    present = incomplete(train, COMPLETE, 0).present
    return Truth(latents(train), present, latents(test), law)


class Reached(NamedTuple):
    """Draws under one pattern against their exact law, and the sampling errors of the numbers.

    Attributes:
      bias: the largest of a channel, in its conditional deviations.
      slope: of the draws on the conditional mean, 1 of the exact law.
      spread: largest error of the covariance about the mean, in the same units squared.
    """

    bias: float
    slope: float
    spread: float
    errors: tuple[float, float, float]


def trained(modules, z, present, steps: int):
    """Parameters of the score networks of all modalities."""
    loss, rows = score_loss(modules), len(z)
    z, valid = jnp.asarray(z * present[..., None, None]), jnp.asarray(present[..., None])
    optimiser = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(optax.cosine_decay_schedule(4e-3, steps))
    )

    def step(carry, key):
        params, state = carry
        at = jax.random.randint(jax.random.fold_in(key, 1), (BATCH,), 0, rows)
        data = {"z": z[at], "valid": valid[at]}
        gradient = jax.grad(loss)(params, data, jnp.ones(BATCH), key, 1)
        updates, state = optimiser.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), None

    params = initial_score(modules.score)(jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), steps)
    start = (params, optimiser.init(params))
    return jax.jit(lambda start: jax.lax.scan(step, start, keys)[0][0])(start)


def reached(config, modules, params, truth: Truth, pattern: np.ndarray) -> Reached:
    size, drawer = len(truth.test), make_drawer(modules, config.diffusion)
    x, _ = draw_missing(
        drawer,
        params,
        truth.test,
        np.ones((size, 3, 1), bool),
        np.tile(pattern, (size, 1)),
        np.arange(size),
        np.zeros((size, 1), int),
        jax.random.key(3),
        (1,),
        size,
    )
    given = np.repeat(pattern, CHANNELS)
    values = truth.test.reshape(size, -1)[:, given].astype(np.float64)
    law = truth.law.condition(np.flatnonzero(~given), np.flatnonzero(given), values)
    mean, cov = exact_laws.moments(law)
    away, centred = x.reshape(size, -1)[:, ~given] - mean, mean - mean.mean(0)
    deviation, power = np.sqrt(np.einsum("nqq->q", cov) / size), (centred**2).sum()
    spread = np.abs(np.cov(away.T) - cov.mean(0)) / np.outer(deviation, deviation)
    of_slope = np.sqrt(np.einsum("np,npq,nq->", centred, cov, centred)) / power
    return Reached(
        np.abs(away.mean(0) / deviation).max(),
        1 + (away * centred).sum() / power,
        spread.max(),
        (1 / np.sqrt(size), of_slope, np.sqrt(2 / size)),
    )


@pytest.fixture(scope="module")
def networks(truth):
    """'complete' and 'incomplete' utterances -> pattern -> what networks reach that had them."""
    config = configs.from_dict(CONFIG)
    modules = build(config, NAMES)
    everything = np.ones_like(truth.present)
    many = round(STEPS / PAIRS)
    params = {
        "complete": trained(modules, truth.train, everything, STEPS),
        "incomplete": trained(modules, truth.train, truth.present, many),
    }
    return {
        name: {
            pattern_name(p, NAMES): reached(config, modules, learned, truth, p)
            for p in patterns(3)[:-1]
        }
        for name, learned in params.items()
    }


def test_networks_learn_the_laws_of_complete_utterances_from_incomplete_ones(networks):
    """Bias, slope and covariance, averaged over patterns; what the draws' number leaves open, and
    half as much again as the network's own error on complete utterances, are allowed."""
    errors = {
        name: np.array([(r.bias, abs(r.slope - 1), r.spread) for r in of_pattern.values()])
        for name, of_pattern in networks.items()
    }
    sampling = np.mean([r.errors for r in networks["incomplete"].values()], axis=0)
    complete, found = errors["complete"].mean(0), errors["incomplete"].mean(0)
    assert (complete < (0.05, 0.06, 0.25)).all(), complete  # else there is nothing to be held to
    assert (found < 1.5 * complete + 4 * sampling).all(), (found, complete, sampling)
    assert errors["incomplete"][:, 1].max() < 0.15
