"""The completed sets that stage 2 learns from and is validated on: drawn once, then reused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from mmdjax.files import load_arrays, save_arrays
from mmdjax.methods.system import Scale
from mmdjax.methods.two_stage import TwoStage
from mmdjax.types import Latents

DRAW_STREAM = 100  # apart from the streams of `stages.STREAMS`


class Sets(NamedTuple):
    """data: for `losses.completion_loss`. validate: params -> MAE over all patterns, one draw."""

    data: dict
    validate: Callable


def incomplete_sets(patterns: np.ndarray, size: int, rounds: int, seed: int) -> np.ndarray:
    """(N, R, M) bool: each utterance meets every incomplete pattern once before any again."""
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
      folder: draws are kept there, in draws.npz.
    """
    train, valid = z["train"], z["valid"]
    observed = incomplete_sets(system.patterns, len(train.label), system.config.rounds, seed)
    copies = len(system.patterns)
    everywhere = np.repeat(system.patterns, len(valid.label), axis=0)
    valid_sets = Latents(*(np.tile(a, (copies,) + (1,) * (a.ndim - 1)) for a in valid))
    if fill == "draws":
        table, filled = _draws(system, seed, train, observed, valid_sets, everywhere, score, folder)
    else:
        table = system.constant(fill, scale)
        filled = np.where(everywhere[..., None, None], valid_sets.x, table[:, None])
    data = {"z": train.x, "valid": train.valid, "label": train.label}
    data |= {"observed": observed, "scale": scale, "fill": table}

    def validate(params) -> float:
        prediction = system.predict(params, scale, filled, valid_sets.valid, everywhere)
        return float(np.abs(prediction - valid_sets.label).mean())

    return Sets(data, validate)


def _draws(system, seed, train, observed, valid_sets, everywhere, score, folder):
    """Draws for training (N, R, M, T, D) and for validation (P N, M, T, D)."""
    path = folder / "draws.npz"
    if path.exists():
        kept = load_arrays(path)
        return kept["train"], kept["valid"]
    size, rounds = observed.shape[:2]
    key = jax.random.fold_in(jax.random.key(seed), DRAW_STREAM)
    drawn, _ = system.draw(
        score,
        Latents(*(np.repeat(a, rounds, axis=0) for a in train)),
        observed.reshape(size * rounds, -1),
        np.repeat(np.arange(size), rounds),
        np.tile(np.arange(rounds), size)[:, None],
        jax.random.fold_in(key, 0),
        f"seed {seed}: draws for training",
    )
    drawn = drawn.reshape(size, rounds, *drawn.shape[2:])
    filled, _ = system.draw(
        score,
        valid_sets,
        everywhere,
        np.tile(np.arange(len(everywhere) // len(system.patterns)), len(system.patterns)),
        np.zeros((len(everywhere), 1), int),
        jax.random.fold_in(key, 1),
        f"seed {seed}: draws for validation",
    )
    filled = filled[:, 0]
    save_arrays(path, train=drawn, valid=filled)
    return drawn, filled
