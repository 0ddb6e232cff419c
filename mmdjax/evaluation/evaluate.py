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


def evaluate(system, trained, seed: int, raw_test: Batch) -> tuple[list[dict], dict]:
    """Rows for `results.json`, and the masks of the random protocol.

    Args:
      system: `methods.two_stage.TwoStage`.
      trained: its `Trained`.
      seed: of training and of the masks.
      raw_test: the test split before standardisation, for the exact law of synthetic data.
    """
    config, modalities = system.config, system.modalities
    z = system.standardised_latents(trained.encoders)[1]["test"]
    count = config.evaluation.draws
    names = [f"diffusion_k{count}", "diffusion_k1", f"diffusion_complete_k{count}"]
    predictions = {
        name: []
        for name in (*names, "zero_trained", "mean_trained", "zero", "mean", "linear_probe")
    }
    rows, started = [], time.monotonic()
    key = jax.random.fold_in(jax.random.key(seed), 200)
    for pattern in system.patterns:
        observed = np.tile(pattern, (len(z.label), 1))

        def predict(params, filled, observed=observed):
            return system.predict(params, trained.scale, filled, z.valid, observed)

        for fill in ("zero", "mean"):
            constant = system.constant(fill, trained.scale)[:, None]
            filled = np.where(observed[..., None, None], z.x, constant)
            predictions[fill].append(predict(trained.complete, filled))
            predictions[f"{fill}_trained"].append(predict(trained.stage2[fill], filled))
            rows += imputation_rows(fill, filled, filled, z, pattern, modalities, seed)
        drawn, nfe = _draws(system, trained, z, pattern, count, key, seed)
        many = np.repeat(observed, count, axis=0)
        shape = (len(z.label), count)
        if pattern.all():
            drawn, many, shape = z.x, observed, (len(z.label), 1)
        valid = np.repeat(z.valid, shape[1], axis=0)
        for name, params in (("", trained.stage2["draws"]), ("_complete", trained.complete)):
            each = system.predict(params, trained.scale, drawn, valid, many).reshape(shape)
            predictions[f"diffusion{name}_k{count}"].append(each.mean(1))
            if not name:
                predictions["diffusion_k1"].append(each[:, 0])
        if not pattern.all():
            drawn = drawn.reshape(*shape, *drawn.shape[1:])
            first, mean = drawn[:, 0], drawn.mean(1)
            rows += imputation_rows("diffusion", first, mean, z, pattern, modalities, seed)
            decoder = trained.stage2["draws"]["decoder"]
            aligned = system.align(decoder, first, z.valid, observed)
            rows += imputation_rows(
                "diffusion_aligned", aligned, None, z, pattern, modalities, seed
            )
            rows.append(
                row("diffusion", "cost", pattern_name(pattern, modalities), seed, "nfe", nfe)
            )
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


def _draws(system, trained, z: Latents, pattern, count: int, key, seed: int):
    """K draws an utterance, (N K, M, T, D); a pattern with nothing missing takes no evaluation."""
    if pattern.all():
        return z.x, 0
    size = len(z.label)
    return system.draw(
        trained.score,
        Latents(*(np.repeat(a, count, axis=0) for a in z)),
        np.tile(pattern, (size * count, 1)),
        np.repeat(np.arange(size), count),
        np.tile(np.arange(count), size),
        key,
        f"seed {seed}: {count} draws, observed {pattern_name(pattern, system.modalities)}",
    )


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
            "rmse": rmse(np.broadcast_to(one[:, m], truth.shape), truth, mask),
        }
        if average is not None:
            values["rmse_mean"] = rmse(np.broadcast_to(average[:, m], truth.shape), truth, mask)
        rows += [row(method, "imputation", condition, seed, k, v) for k, v in values.items()]
    return rows


def _flat(x, mask):
    x = np.where(mask[..., None], x, 0.0)
    return x.reshape(len(x), -1)
