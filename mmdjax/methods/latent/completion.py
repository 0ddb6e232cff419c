"""The completed sets that stage 2 learns from and is validated on: drawn once, then reused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from mmdjax.data.missing.patterns import random_mask
from mmdjax.methods.latent.modules import Scale
from mmdjax.methods.two_stage import TwoStage
from mmdjax.runtime import processes
from mmdjax.runtime.files import load_arrays, save_arrays
from mmdjax.training.step import Source
from mmdjax.types import Latents

DRAW_STREAM = 100  # apart from the streams of `stages.STREAMS`


class Sets(NamedTuple):
    """source: for `losses.completion_loss`. validate: params -> MAE over all patterns, one draw."""

    source: Source
    validate: Callable


def incomplete_sets(
    patterns: np.ndarray, size: int, rounds: int, seed: int, rate: float = 0.0
) -> np.ndarray:
    """(N, R, M) bool: each utterance meets every incomplete pattern once before any again; or, with
    a missing rate, sets of the random protocol, complete ones among them."""
    if rate:
        mask = random_mask(size * rounds, patterns.shape[1], rate, seed + DRAW_STREAM)
        return mask.reshape(size, rounds, -1)
    incomplete, rng = patterns[:-1], np.random.default_rng([seed, DRAW_STREAM])
    repeats = -(-rounds // len(incomplete))
    order = [
        rng.permuted(np.tile(np.arange(len(incomplete)), (size, 1)), axis=1) for _ in range(repeats)
    ]
    return incomplete[np.concatenate(order, axis=1)[:, :rounds]]


def training_sets(
    system: TwoStage,
    seed: int,
    fill: str,
    scale: Scale,
    z: Mapping[str, Latents],
    score,
    folder: Path,
) -> Sets:
    """Incomplete sets of the training split and every pattern of validation, completed by `fill`.

    Args:
      fill: 'draws', 'zero' or 'mean'.
      z: split -> standardised latents.
      score: parameters of the score networks (read for 'draws').
      folder: draws are kept there.
    """
    train, valid = z["train"], z["valid"]
    config = system.config
    settings = (len(train.label), config.rounds, seed, config.training_rate)
    observed = incomplete_sets(system.patterns, *settings)
    valid_sets, everywhere = under(system.patterns, valid)
    if fill == "draws":
        table, filled = _draws(system, seed, train, observed, valid, score, folder)
    else:
        table = system.constant(fill, scale)
        filled = np.where(everywhere[..., None, None], valid_sets.x, table[:, None])
    rows = {"z": train.x, "valid": train.valid, "label": train.label, "observed": observed}
    common = {"scale": scale}
    (rows if fill == "draws" else common)["fill"] = table

    def validate(params) -> float:
        prediction = system.predict(params, scale, filled, valid_sets.valid, everywhere)
        return float(np.abs(prediction - valid_sets.label).mean())

    return Sets(Source(rows, common), validate)


def _draws(system, seed, train, observed, valid: Latents, score, folder):
    """Draws for training (N, R, M, T, D) and for validation (P N, M, T, D)."""
    size, rounds = observed.shape[:2]
    key = jax.random.fold_in(jax.random.key(seed), DRAW_STREAM)

    def for_training():
        drawn, _ = system.draw(
            score,
            Latents(*(np.repeat(a, rounds, axis=0) for a in train)),
            observed.reshape(size * rounds, -1),
            np.repeat(np.arange(size), rounds),
            np.tile(np.arange(rounds), size)[:, None],
            jax.random.fold_in(key, 0),
            f"seed {seed}: draws for training",
        )
        return drawn.reshape(size, rounds, *drawn.shape[2:])

    def for_validation():
        about = (jax.random.fold_in(key, 1), f"seed {seed}: draws for validation")
        filled, _ = draw_patterns(system, score, valid, system.patterns, 1, *about)
        return filled.reshape(-1, *valid.x.shape[1:])

    return _kept(folder / "train.npz", for_training), _kept(folder / "valid.npz", for_validation)


def _kept(path: Path, make: Callable[[], np.ndarray]) -> np.ndarray:
    """What a file holds; the first process writes it where there is none."""
    if processes.agreed(path.exists()):
        return load_arrays(path)["drawn"]
    drawn = make()
    if processes.is_first():
        save_arrays(path, drawn=drawn)
    return drawn


def under(patterns, z: Latents) -> tuple[Latents, np.ndarray]:
    """Every utterance under every pattern, patterns outermost: latents (P N, ...), observed."""
    every = Latents(*(np.tile(a, (len(patterns),) + (1,) * (a.ndim - 1)) for a in z))
    return every, np.repeat(patterns, len(z.label), axis=0)


def draw_patterns(
    system: TwoStage, score, z: Latents, patterns, count: int, key, name: str, drawer=None
):
    """Draws (P, N, K, M, T, D) of K = `count` completions of every utterance under every pattern,
    and the NFE that a draw took. `drawer`: the config's by default."""
    every, observed = under(patterns, z)
    ids = np.tile(np.arange(len(z.label)), len(patterns))
    index = np.tile(np.arange(count), (len(ids), 1))
    drawn, nfe = system.draw(score, every, observed, ids, index, key, name, drawer)
    return drawn.reshape(len(patterns), -1, *drawn.shape[1:]), nfe
