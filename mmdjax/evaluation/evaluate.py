"""Every method on the test split, on the same masks, for one seed."""

from __future__ import annotations

import time

import jax
import numpy as np

from mmdjax.data.missing.patterns import pattern_name
from mmdjax.data.sources.synthetic import LAWS, Law
from mmdjax.evaluation.metrics import energy_distance, rmse
from mmdjax.evaluation.protocols import prediction_rows, random_masks, row
from mmdjax.methods import linear_probe
from mmdjax.methods.latent.completion import draw_patterns, under
from mmdjax.methods.two_stage import scaled
from mmdjax.types import Batch, Latents

TEST_STREAM = 200  # of a seed's randomness, apart from training's
SETS = 8192  # completed at once: bounds memory


def evaluate(system, trained, seed: int, raw_test: Batch) -> tuple[list[dict], dict]:
    """Rows for `results.json`, and the masks of the random protocol.

    Args:
      system: `methods.two_stage.TwoStage`.
      trained: its `Trained`.
      seed: of training and of the masks.
      raw_test: the test split before standardisation, for the exact law of synthetic data.
    """
    started, config, modalities = time.monotonic(), system.config, system.modalities
    z = scaled(system.encode(trained.encoders, system.splits["test"]), trained.scale)
    rows, predictions, seconds = [], {}, {}
    constant = trained.stage2.keys() - {"draws"}
    parts = [p for p, wanted in ((constant_fills, constant), (diffusion, trained.score)) if wanted]
    for patterns in in_groups(system.patterns, len(z.label) * config.evaluation.draws):
        for part in parts:
            begun = time.monotonic()
            more, predicted = part(system, trained, z, patterns, seed)
            name = f"evaluation: {part.__name__.replace('_', ' ')}"
            seconds[name] = seconds.get(name, 0.0) + time.monotonic() - begun
            rows += more
            for method, values in predicted.items():
                predictions.setdefault(method, []).extend(values)
    predictions["linear_probe"] = linear_probe.predictions(system.splits, system.patterns)
    if config.data.name in LAWS:
        law = Law(config.data.seed, LAWS[config.data.name])
        kept = [[m for m, o in zip(modalities, p, strict=True) if o] for p in system.patterns]
        predictions["bayes"] = [law.bayes_prediction(names, raw_test.features) for names in kept]
    masks = random_masks(len(z.label), len(modalities), config.evaluation.rates, seed)
    stacked = {name: np.stack(p) for name, p in predictions.items()}
    rows += prediction_rows(stacked, z.label, system.patterns, modalities, masks, seed)
    seconds["evaluation"] = time.monotonic() - started
    seconds = {name: phase["seconds"] for name, phase in trained.history.items()} | seconds
    rows += [row(name, "cost", "all", seed, "seconds", s) for name, s in seconds.items()]
    return rows, masks


def in_groups(patterns: np.ndarray, sets: int) -> list[np.ndarray]:
    """The patterns in groups that are completed at once, the complete one alone: batches are filled
    with rows of several patterns, and memory stays bounded.

    Args:
      patterns: (P, M), the complete one last. sets: completed sets of one pattern.
    """
    incomplete, size = patterns[:-1], max(1, SETS // sets)
    groups = [incomplete[i : i + size] for i in range(0, len(incomplete), size)]
    return [*groups, patterns[-1:]]


def constant_fills(system, trained, z: Latents, patterns, seed: int):
    """`zero` and `mean`: classifier of complete data, and the one trained with that fill.

    Returns:
      Rows on imputation, and method -> predictions (P, N).
    """
    (every, observed), rows, predictions = under(patterns, z), [], {}
    for fill in (f for f in trained.stage2 if f != "draws"):
        constant = system.constant(fill, trained.scale)[:, None]
        filled = np.where(observed[..., None, None], every.x, constant)
        for method, params in ((fill, trained.complete), (f"{fill}_trained", trained.stage2[fill])):
            arguments = (params, trained.scale, filled, every.valid, observed)
            predictions[method] = system.predict(*arguments).reshape(len(patterns), -1)
        for pattern, one in zip(patterns, filled.reshape(-1, *z.x.shape), strict=True):
            rows += imputation_rows(fill, one, one, z, pattern, system.modalities, seed)
    return rows, predictions


def diffusion(system, trained, z: Latents, patterns, seed: int):
    """Draws into stage 2 (K averaged, and one alone) and into the classifier of complete data.

    Returns:
      Rows on imputation and NFE, and method -> predictions (P, N).
    """
    draws = system.config.evaluation.draws
    # With nothing missing every draw is the utterance itself.
    count = 1 if patterns.all() else draws
    key = jax.random.fold_in(jax.random.key(seed), TEST_STREAM)
    names = ", ".join(pattern_name(p, system.modalities) for p in patterns)
    name = f"seed {seed}: {count} draws, observed {names}"
    drawn, nfe = draw_patterns(system, trained.score, z, patterns, count, key, name)
    every, observed = under(patterns, z)
    sets = drawn.reshape(len(observed), count, *z.x.shape[1:])
    masks = (every.valid, observed)
    stage2 = trained.stage2["draws"]
    flat = sets.reshape(-1, *sets.shape[2:])
    refined = flat
    if "decoder" in stage2:
        every_draw = (np.repeat(a, count, axis=0) for a in masks)
        refined = system.align(stage2["decoder"], flat, *every_draw)

    def predict(fusion, sets):
        found = predict_draws(system, {"fusion": fusion}, trained.scale, sets, *masks)
        return found.reshape(len(patterns), -1, count)

    each = predict(stage2["fusion"], refined.reshape(sets.shape))
    predictions = {
        "diffusion_k1": each[..., 0],
        f"diffusion_k{draws}": each.mean(-1),
    }
    if trained.complete is not None:
        each = predict(trained.complete["fusion"], sets)
        predictions[f"diffusion_complete_k{draws}"] = each.mean(-1)
    rows = []
    for pattern, one, aligned in zip(patterns, drawn, refined.reshape(drawn.shape), strict=True):
        if not pattern.all():
            about = (z, pattern, system.modalities, seed)
            rows += imputation_rows("diffusion", one[:, 0], one.mean(1), *about)
            if "decoder" in stage2:
                rows += imputation_rows("diffusion_aligned", aligned[:, 0], None, *about)
            given = pattern_name(pattern, system.modalities)
            rows.append(row("diffusion", "cost", given, seed, "nfe", nfe))
    return rows, predictions


def predict_draws(system, params, scale, drawn, valid, observed) -> np.ndarray:
    """Predictions (N, K) of N utterances completed K times, drawn (N, K, M, T, D)."""
    size, count = drawn.shape[:2]
    many = [np.repeat(a, count, axis=0) for a in (valid, observed)]
    flat = drawn.reshape(size * count, *drawn.shape[2:])
    return system.predict(params, scale, flat, *many).reshape(size, count)


def imputation_rows(method, one, average, z: Latents, pattern, modalities, seed) -> list[dict]:
    """How well missing latents were filled, condition 'l>a': a from l.

    `energy_distance` compares one fill an utterance with the true latents as samples of a law;
    `rmse` is the error of one fill, `rmse_mean` that of the average of K.
    """
    rows, given = [], pattern_name(pattern, modalities)
    for m in np.flatnonzero(~pattern):
        alone = np.arange(len(modalities)) == m
        condition = f"{given}>{pattern_name(alone, modalities)}"
        truth, mask = z.x[:, m], z.valid[:, m]
        values = {
            "energy_distance": energy_distance(*(_flat(x, mask) for x in (one[:, m], truth))),
            "rmse": rmse(one[:, m], truth, mask),
        }
        if average is not None:
            values["rmse_mean"] = rmse(average[:, m], truth, mask)
        rows += [row(method, "imputation", condition, seed, k, v) for k, v in values.items()]
    return rows


def _flat(x, mask):
    """(N, T D), zero off the mask."""
    return np.where(mask[..., None], x, 0.0).reshape(len(x), -1)
