"""The completed sets that stage 2 learns from and is validated on: drawn once, then reused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mmdjax.data.missing.patterns import random_mask
from mmdjax.data.stored import Stored, blocks, kept_npy
from mmdjax.methods.latent.modules import Scale
from mmdjax.methods.latent.space import Space
from mmdjax.methods.method import stream
from mmdjax.runtime import processes
from mmdjax.runtime.files import load_arrays, save_arrays
from mmdjax.training.step import Source
from mmdjax.types import Latents, Observed, Params, hidden, known_labels

NAME = "completions"  # of their folder, and of their random stream


def incomplete_sets(
    patterns: np.ndarray, present: np.ndarray, rounds: int, seed: int, rate: float = 0.0
) -> np.ndarray:
    """Return what is observed in each round of training, (N, R, M) bool.

    Each utterance meets every incomplete pattern once before any again; or, with a missing rate,
    sets of the random protocol, complete ones among them. Either hides more of what is present
    (N, M), see `mmdjax.types.hidden`.
    """
    size = len(present)
    if rate:
        mask = random_mask(size * rounds, patterns.shape[1], rate, seed + stream(NAME))
        return hidden(mask.reshape(size, rounds, -1), present[:, None])
    incomplete, rng = patterns[:-1], np.random.default_rng([seed, stream(NAME)])
    repeats = -(-rounds // len(incomplete))
    order = [
        rng.permuted(np.tile(np.arange(len(incomplete), dtype=np.int8), (size, 1)), axis=1)
        for _ in range(repeats)
    ]
    return hidden(incomplete[np.concatenate(order, axis=1)[:, :rounds]], present[:, None])


def labelled_rows(z: Latents) -> Latents:
    """Return the utterances that have a label."""
    rows = np.flatnonzero(known_labels(z.label))
    if not isinstance(z.x, Stored):
        return Latents(*(a[rows] for a in z))
    return Latents(*z.x.table.taken(rows).columns().values(), z.label[rows])


def training_sets(
    space: Space,
    seed: int,
    scale: Scale,
    z: Mapping[str, Latents],
    score: Params,
    constant: np.ndarray | None,
    folder: Path | None,
) -> tuple[Source, Callable]:
    """Return the data of `losses.completion_loss`, and the validation error of parameters.

    Utterances without a label are left out: what is to be learned here is the label.

    Args:
      z: split -> standardised latents.
      score: parameters of the score networks, where missing latents are drawn.
      constant: (M, D) latent that takes their place otherwise.
      folder: where draws are kept.
    """
    train, valid = (labelled_rows(z[split]) for split in ("train", "valid"))
    config = space.config
    observed = incomplete_sets(
        space.patterns, train.present, config.rounds, seed, config.training_rate
    )
    valid_sets, everywhere = under(space.patterns, valid)
    rows = {"z": train.x, "valid": train.valid, "label": train.label, "observed": observed}
    common: dict[str, Any] = {"scale": scale}
    if constant is None:
        rows["fill"], filled = _draws(space, seed, train, observed, valid, score, folder)
    else:
        common["fill"] = constant
        filled = np.where(everywhere[..., None, None], valid_sets.x, constant[:, None])

    def validate(params) -> float:
        prediction = space.predict_latents(params, scale, filled, valid_sets.valid, everywhere)
        return space.task.mean_error(prediction, valid_sets.label)

    return Source(rows, common), validate


def _draws(
    space: Space,
    seed: int,
    train: Latents,
    observed: np.ndarray,
    valid: Latents,
    score: Params,
    folder: Path | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Draws for training (N, R, M, T, D) and for validation (P N, M, T, D)."""
    size, rounds = observed.shape[:2]
    key = jax.random.fold_in(jax.random.key(seed), stream(NAME))
    title = f"seed {seed}: draws for training"

    def of_rows(rows: slice, title: str) -> np.ndarray:
        ids = np.arange(rows.start, rows.stop)
        drawn, _ = space.draw_latents(
            score,
            Latents(*(np.repeat(a[rows], rounds, axis=0) for a in train)),
            observed[rows].reshape(len(ids) * rounds, -1),
            np.repeat(ids, rounds),
            np.tile(np.arange(rounds), len(ids))[:, None],
            jax.random.fold_in(key, 0),
            title,
        )
        return drawn.reshape(len(ids), rounds, *drawn.shape[2:])

    def block_by_block() -> Iterator[np.ndarray]:
        parts = list(blocks(size, space.config.evaluation.batch))
        with space.reporter.phase(title, len(parts)) as progress:
            for rows in parts:
                yield of_rows(rows, "")
                progress.advance()

    def for_validation():
        patterns = Observed.of_patterns(space.patterns, valid.present).modalities
        title = f"seed {seed}: draws for validation"
        key_valid = jax.random.fold_in(key, 1)
        filled, _ = draw_observed(space, score, valid, patterns, 1, key_valid, title)
        return filled.reshape(-1, *valid.x.shape[1:])

    if isinstance(train.x, Stored):
        shape = (size, rounds, *train.x.shape[1:])
        for_training = kept_npy(folder / "train.npy", block_by_block, shape)
    else:
        for_training = _kept(folder / "train.npz", lambda: of_rows(slice(0, size), title))
    return for_training, _kept(folder / "valid.npz", for_validation)


def _kept(path: Path, make: Callable[[], np.ndarray]) -> np.ndarray:
    """What a file holds; the first process writes it where there is none."""
    if processes.agreed(path.exists()):
        return load_arrays(path)["drawn"]
    drawn = make()
    if processes.is_first():
        save_arrays(path, drawn=drawn)
    return drawn


def under(patterns: np.ndarray, z: Latents) -> tuple[Latents, np.ndarray]:
    """Return every utterance under every pattern, patterns outermost: latents (P N, ...), and what
    is observed (P N, M)."""
    every = Latents(*(np.tile(a, (len(patterns),) + (1,) * (a.ndim - 1)) for a in z))
    return every, Observed.of_patterns(patterns, z.present).modalities.reshape(len(every.label), -1)


def draw_observed(
    space: Space,
    score: Params,
    z: Latents,
    observed: np.ndarray,
    count: int,
    key: jax.Array,
    name: str,
    ids: np.ndarray | None = None,
) -> tuple[np.ndarray, int]:
    """Return K = `count` completions under Q conditions, (Q, N, K, M, T, D), and their NFE.

    Args:
      z: N utterances.
      observed: (Q, N, M) bool, or what each latent frame rests on, (Q, N, M, T), see `Cover`.
      ids: (N,) numbers of the utterances in their split; 0 to N - 1 by default.
    """
    conditions, rows = observed.shape[:2]
    every = Latents(*(np.tile(a, (conditions,) + (1,) * (a.ndim - 1)) for a in z))
    ids = np.tile(np.arange(rows) if ids is None else ids, conditions)
    index = np.tile(np.arange(count), (len(ids), 1))
    flat = observed.reshape(len(ids), *observed.shape[2:])
    drawn, nfe = space.draw_latents(score, every, flat, ids, index, key, name)
    return drawn.reshape(conditions, rows, *drawn.shape[1:]), nfe
