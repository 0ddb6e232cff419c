"""Every method on the test split, on the same masks, for one seed."""

from __future__ import annotations

import time

import jax
import numpy as np

from mmdjax.data.missing import pattern_name
from mmdjax.data.synthetic import Law
from mmdjax.evaluation.metrics import energy_distance, rmse
from mmdjax.evaluation.protocols import prediction_rows, random_masks, row
from mmdjax.methods import linear_probe
from mmdjax.types import Batch, Latents

TEST_STREAM = 200  # of a seed's randomness, apart from training's


def evaluate(system, trained, seed: int, raw_test: Batch) -> tuple[list[dict], dict]:
    """Rows for `results.json`, and the masks of the random protocol.

    Args:
      system: `methods.two_stage.TwoStage`.
      trained: its `Trained`.
      seed: of training and of the masks.
      raw_test: the test split before standardisation, for the exact law of synthetic data.
    """
    started, config, modalities = time.monotonic(), system.config, system.modalities
    z = system.standardised_latents(trained.encoders)[1]["test"]
    rows, predictions = [], {}
    for pattern in system.patterns:
        for part in (constant_fills, diffusion):
            more, predicted = part(system, trained, z, pattern, seed)
            rows += more
            for method, values in predicted.items():
                predictions.setdefault(method, []).append(values)
    predictions["linear_probe"] = linear_probe.predictions(system.splits, system.patterns)
    if config.data.name == "synthetic":
        law = Law(config.data.seed)
        kept = [[m for m, o in zip(modalities, p, strict=True) if o] for p in system.patterns]
        predictions["bayes"] = [law.bayes_prediction(names, raw_test.features) for names in kept]
    masks = random_masks(len(z.label), len(modalities), config.evaluation.rates, seed)
    stacked = {name: np.stack(p) for name, p in predictions.items()}
    rows += prediction_rows(stacked, z.label, system.patterns, modalities, masks, seed)
    seconds = {name: phase["seconds"] for name, phase in trained.history.items()}
    seconds["evaluation"] = time.monotonic() - started
    rows += [row(name, "cost", "all", seed, "seconds", s) for name, s in seconds.items()]
    return rows, masks


def constant_fills(system, trained, z: Latents, pattern, seed: int):
    """`zero` and `mean`: classifier of complete data, and the one trained with that fill.

    Returns:
      Rows on imputation, and method -> predictions (N,).
    """
    observed, rows, predictions = np.tile(pattern, (len(z.label), 1)), [], {}
    for fill in ("zero", "mean"):
        constant = system.constant(fill, trained.scale)[:, None]
        filled = np.where(observed[..., None, None], z.x, constant)
        for method, params in ((fill, trained.complete), (f"{fill}_trained", trained.stage2[fill])):
            arguments = (params, trained.scale, filled, z.valid, observed)
            predictions[method] = system.predict(*arguments)
        rows += imputation_rows(fill, filled, filled, z, pattern, system.modalities, seed)
    return rows, predictions


def diffusion(system, trained, z: Latents, pattern, seed: int):
    """Draws into stage 2 (K averaged, and one alone) and into the classifier of complete data.

    Returns:
      Rows on imputation and NFE, and method -> predictions (N,).
    """
    size, modalities = len(z.label), system.modalities
    # With nothing missing every draw is the utterance itself.
    count = 1 if pattern.all() else system.config.evaluation.draws
    observed = np.tile(pattern, (size, 1))
    drawn, nfe = system.draw(
        trained.score,
        z,
        observed,
        np.arange(size),
        np.tile(np.arange(count), (size, 1)),
        jax.random.fold_in(jax.random.key(seed), TEST_STREAM),
        f"seed {seed}: {count} draws, observed {pattern_name(pattern, modalities)}",
    )

    def predict(params):
        return predict_draws(system, params, trained.scale, drawn, z.valid, observed)

    draws, each = system.config.evaluation.draws, predict(trained.stage2["draws"])
    predictions = {
        "diffusion_k1": each[:, 0],
        f"diffusion_k{draws}": each.mean(1),
        f"diffusion_complete_k{draws}": predict(trained.complete).mean(1),
    }
    if pattern.all():
        return [], predictions
    first, given = drawn[:, 0], pattern_name(pattern, modalities)
    decoder = trained.stage2["draws"]["decoder"]
    aligned = system.align(decoder, first, z.valid, observed)
    rows = imputation_rows("diffusion", first, drawn.mean(1), z, pattern, modalities, seed)
    rows += imputation_rows("diffusion_aligned", aligned, None, z, pattern, modalities, seed)
    return [*rows, row("diffusion", "cost", given, seed, "nfe", nfe)], predictions


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
