"""The predictor of a model that is published, and the calibration of its intervals and sets.

Both are chosen on the validation split, under every availability pattern; where a method is given
modalities in part, also under gaps of every size.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from scipy.ndimage import uniform_filter1d

from mmdjax.data.stored import is_stored
from mmdjax.tasks import conformal
from mmdjax.training.streams import stream
from mmdjax.types import Observed, hidden, known_labels

STREAM = "bounds"  # random stream of the completions that bounds are calibrated with
LEAST_SHARE = 0.02  # of frames that calibration shows of a modality
ALIKE = 0.8  # of the utterances, whose modalities have one share
BURST = 5  # frames
# Utterances are shown in part several times, until there are so many rows of a pattern: where there
# are few, rows with very different shares would have to make up one interval.
ROWS_IN_PART, MOST_TIMES = 2048, 4
SETS = 8192  # completed at once while publishing: bounds memory


def choose(
    method: Any,
    params: Any,
    seed: int,
    masks: np.ndarray,
    candidates: Mapping,
    see: Callable[[Observed, np.ndarray], None] = lambda observed, x: None,
    in_part: bool = False,
) -> tuple[str, Any]:
    """Return the name of the best predictor on the validation split, and its calibration.

    Args:
      method: of `mmdjax.methods.method`. params: phase -> its parameters.
      masks: (Q, N, M) bool, what is observed of the validation split under each condition.
      candidates: name -> parameters, as `method.predict_with` takes them.
      see: called with the `Observed` and the completions of each group of conditions.
      in_part: calibrate for gaps inside modalities, too.
    """
    task, split = method.task, method.dataset.splits["valid"]
    draws = method.config.evaluation.draws if method.draws else 1
    key = jax.random.fold_in(jax.random.key(seed), stream(STREAM))
    whole = masks.all((1, 2))
    # Several conditions at once fill batches; memory stays bounded.
    size = max(1, SETS // (len(split.label) * draws))
    starts = range(0, len(masks), size)
    groups = [masks[~whole][i : i + size] for i in starts] + [masks[whole]]
    conditions = [Observed(group) for group in groups if len(group)]
    if in_part and not is_stored(split) and max(v.shape[1] for v in split.valid.values()) > 1:
        times = min(MOST_TIMES, -(-ROWS_IN_PART // len(split.label)))
        for pattern in method.dataset.patterns:
            conditions += [in_parts(split, pattern, (seed, time)) for time in range(times)]
    predictions: dict[str, list] = {name: [] for name in candidates}
    for observed in conditions:
        # With nothing missing every draw is the utterance itself.
        count = 1 if observed.everything else draws
        title = f"seed {seed}: draws for bounds"
        completion = method.complete(params, "valid", observed, count, key, title)
        see(observed, completion.x)
        for name, weights in candidates.items():
            each = method.predict_with(weights, params, "valid", completion)
            each = np.repeat(each, draws // each.shape[2], axis=2)
            predictions[name].append(each.reshape(-1, *each.shape[2:]))
    known, share = _shown(split, conditions)
    code, rows = conformal.cells(known, share), len(split.label)
    row = np.tile(np.arange(rows), len(known) // rows)
    counted = np.flatnonzero(known_labels(split.label)[row])
    if method.sees == "utterances":
        # Several patterns may show the same of an utterance that lacks something: it counts once.
        _, first = np.unique(np.stack([row, code], axis=1), axis=0, return_index=True)
        counted = np.intersect1d(counted, first)
    every, code, known = split.label[row][counted], code[counted], known[counted]
    joined = {name: np.concatenate(each)[counted] for name, each in predictions.items()}
    patterns = 2 ** known.shape[1]
    errors = {n: task.error(each.mean(1), every)[code < patterns] for n, each in joined.items()}
    best = min(errors, key=lambda name: errors[name].mean())
    mean = conformal.mean_share(known, share[counted])
    return best, task.calibrate(joined[best], every, code, patterns, mean)


def in_parts(split: Any, pattern: np.ndarray, seed: tuple[int, int]) -> Observed:
    """Return a condition under which each utterance has some frames of what a pattern (M,) shows.

    Shares of frames are log-uniform, of one frame at least, of most utterances the same in every
    modality: of shares of one mean, these tell the least. What is missing is one run, of half of
    them, or single frames, or bursts.
    """
    shown, lengths = hidden(pattern, split.present), [v.shape[1] for v in split.valid.values()]
    uniform = _uniforms(split.id, 3 * len(lengths) + 1 + sum(lengths), seed)
    share, alike, kind, start, single = np.split(
        uniform, np.cumsum([len(lengths), 1, len(lengths), len(lengths)]), axis=1
    )
    share = np.exp(np.log(LEAST_SHARE) * np.where(alike < ALIKE, share[:, :1], share))
    singles, frames = np.split(single, np.cumsum(lengths)[:-1], axis=1), {}
    for i, (m, valid) in enumerate(split.valid.items()):
        of, exists, place = slice(i, i + 1), valid.sum(1, keepdims=True), valid.cumsum(1) - 1
        kept = np.clip(np.round(share[:, of] * exists), 1, exists)
        # Neighbours have means of nearly the same numbers, so that the least of them stand in runs.
        bursts = uniform_filter1d(singles[i], BURST, axis=1)
        first = start[:, of] * (kept + 1) - 0.5
        run = (place >= first) & (place < first + exists - kept)
        scattered = np.where(kind[:, :1] < 0.25, singles[i], bursts)
        order = np.where(kind[:, :1] < 0.5, scattered, run)
        rank = np.where(valid, order, np.inf).argsort(1, kind="stable").argsort(1, kind="stable")
        frames[m] = valid & (rank < kept) & shown[:, i, None]
    known = np.stack([v.any(1) for v in frames.values()], 1)
    return Observed(known[None], {m: v[None] for m, v in frames.items()})


def _uniforms(ids: np.ndarray, count: int, seed: tuple[int, int]) -> np.ndarray:
    """Return (N, count) numbers in [0, 1), those of an utterance by its name, not by its place."""
    names = (zlib.crc32(str(name).encode()) for name in ids)
    seeds = ((*seed, stream(STREAM), n) for n in names)
    return np.stack([np.random.default_rng(each).random(count) for each in seeds])


def _shown(split: Any, conditions: Sequence[Observed]) -> tuple[np.ndarray, np.ndarray]:
    """Return (Q N, M) of conditions: something of the modality is observed, and which share."""
    known, shares = [], []
    for observed in conditions:
        known.append(observed.modalities.reshape(-1, observed.modalities.shape[-1]))
        share = known[-1].astype(np.float32)
        if observed.frames is not None:
            pairs = zip(observed.frames.values(), split.valid.values(), strict=True)
            each = [f.sum(2) / np.maximum(v.sum(1), 1) for f, v in pairs]
            share = np.stack(each, -1).reshape(share.shape).astype(np.float32)
        shares.append(share)
    return np.concatenate(known), np.concatenate(shares)
