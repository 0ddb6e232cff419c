"""Every variant of GSDNet and its rivals on the test conversations, on the same masks."""

from __future__ import annotations

import time
from typing import NamedTuple

import jax
import numpy as np

from mmdjax.data.conversations import Conversations
from mmdjax.data.missing.patterns import pattern_name
from mmdjax.data.sources import synthetic_conversations
from mmdjax.evaluation.metrics import class_metrics, energy_distance, sentiment_metrics
from mmdjax.evaluation.protocols import random_masks, realised_rates, row, scored
from mmdjax.methods import linear_probe
from mmdjax.methods.graph_system import GraphSystem, Trained, drawn_variants

TEST_STREAM = 200  # of a seed's randomness, apart from training's


class Condition(NamedTuple):
    """protocol and name of a condition, and what of every utterance is observed, (U, M)."""

    protocol: str
    name: str
    mask: np.ndarray


def evaluate(
    system: GraphSystem, trained: Trained, seed: int, raw_test: Conversations
) -> tuple[list[dict], dict]:
    """Rows for `results.json`, and the masks of the random protocol.

    Args:
      raw_test: the test split before standardisation, for the exact law of synthetic data.
    """
    started, config = time.monotonic(), system.config
    label = system.batches["test"].label
    masks = random_masks(len(label), len(system.modalities), config.evaluation.rates, seed)
    conditions = [
        Condition("fixed", pattern_name(p, system.modalities), np.tile(p, (len(label), 1)))
        for p in system.patterns
    ]
    conditions += [Condition("random", rate, mask) for rate, mask in masks.items()]
    predictions = [{} for _ in conditions]
    rows: list[dict] = []
    for about in (constant_fills, *(_variant(name) for name in drawn_variants(config))):
        more, found = about(system, trained, conditions, seed)
        rows += more
        for place, values in zip(predictions, found, strict=True):
            place |= values
    if not config.data.classes:
        for place, values in zip(predictions, _linear(system, conditions), strict=True):
            place["linear_probe"] = values
    if config.data.name == "synthetic_conversations":
        more, found = optimum(system, conditions, raw_test, seed)
        rows += more
        for place, values in zip(predictions, found, strict=True):
            place["bayes"] = values
    metrics = class_metrics if config.data.classes else sentiment_metrics
    for condition, found in zip(conditions, predictions, strict=True):
        rows += scored(found, label, condition.protocol, condition.name, seed, metrics)
    rows += realised_rates(masks, seed)
    seconds = {name: phase["seconds"] for name, phase in trained.history.items()}
    seconds["evaluation"] = time.monotonic() - started
    rows += [row(name, "cost", "all", seed, "seconds", s) for name, s in seconds.items()]
    return rows, masks


def constant_fills(system: GraphSystem, trained: Trained, conditions, seed: int):
    """Mean filling: into the classifier of complete data, and into the one trained with it."""
    names = {"mean": trained.complete}
    if "mean" in trained.stage2:
        names["mean_trained"] = trained.stage2["mean"]
    rows, found = [], []
    for condition in conditions:
        observed = system.placed("test", condition.mask)
        sets = system.constant_sets(system.of_split["test"], observed)
        found.append({})
        for name, params in names.items():
            made = system.complete(system.constant, params, sets)
            found[-1][name] = system.flat("test", system.predicted(made.prediction))
        rows += imputation_rows(system, "mean", sets.x, sets.x, condition, seed)
    return rows, found


def _variant(name: str):
    """Draws of a variant, corrected and averaged over K; the method itself also uncorrected, one
    draw alone, and into the classifier of complete data."""

    def of(system: GraphSystem, trained: Trained, conditions, seed: int):
        own, draws = name == system.constant, system.config.evaluation.draws
        called = "diffusion" if own else f"diffusion_{name}"
        key = jax.random.fold_in(jax.random.key(seed), TEST_STREAM)
        rows, found = [], []
        for condition in conditions:
            observed = system.placed("test", condition.mask)
            count = 1 if condition.mask.all() else draws
            title = f"seed {seed}: {count} draws of {name}, {condition.protocol} {condition.name}"
            about = (system.of_split["test"], observed, count, key, title)
            sets, nfe = system.draw_sets(name, trained.score[name], *about)
            made = system.complete(name, trained.stage2[name], sets)
            mean = system.flat("test", system.predicted(made.prediction, count))
            found.append({f"{called}_k{draws}": mean})
            each = sets.x.reshape(len(observed), count, *sets.x.shape[1:])
            first, average = each[:, 0], each.mean(1)
            rows += imputation_rows(system, called, first, average, condition, seed)
            if own:
                one = system.predicted(made.prediction[::count])
                found[-1]["diffusion_k1"] = system.flat("test", one)
                whole = system.complete(name, trained.complete, sets).prediction
                found[-1][f"diffusion_complete_k{draws}"] = system.flat(
                    "test", system.predicted(whole, count)
                )
                refined = made.x.reshape(each.shape)
                aligned = (refined[:, 0], refined.mean(1))
                rows += imputation_rows(system, f"{called}_aligned", *aligned, condition, seed)
            if not condition.mask.all():
                rows.append(row(called, "cost", "all", seed, "nfe", nfe))
        return rows, found

    return of


def in_features(system: GraphSystem, x: np.ndarray) -> list[np.ndarray]:
    """Components (G, N, M, D) -> standardised features (U, C_m) of each modality."""
    flat = system.flat("test", x)
    return [flat[:, m] @ np.asarray(back) for m, back in enumerate(system.back)]


def imputation_rows(
    system: GraphSystem, method: str, one, mean, condition: Condition, seed: int
) -> list[dict]:
    """RMSE and energy distance on what is hidden, in standardised features.

    Args:
      one: one draw, mean: that of K, (G, N, M, D) components.
    """
    filled = in_features(system, one), in_features(system, mean)
    return feature_rows(system, method, *filled, condition, seed)


def feature_rows(system, method: str, one, mean, condition: Condition, seed: int) -> list[dict]:
    """As `imputation_rows`, from lists of standardised features (U, C_m)."""
    true = [x[:, 0] for x in system.batches["test"].features.values()]
    gaps, rows = ~condition.mask, []
    if not gaps.any():
        return rows
    if condition.protocol == "random":
        for metric, filled in (("rmse", one), ("rmse_mean", mean)):
            square = [
                ((a - b)[gaps[:, m]] ** 2).mean(-1)  # every modality counts alike
                for m, (a, b) in enumerate(zip(filled, true, strict=True))
            ]
            value = np.sqrt(np.concatenate(square).mean())
            rows.append(row(method, "random", condition.name, seed, metric, value))
        return rows
    for m in np.flatnonzero(gaps[0]):
        letter = pattern_name(np.arange(len(system.modalities)) == m, system.modalities)
        where = (method, "imputation", f"{condition.name}>{letter}", seed)
        for metric, filled in (("rmse", one), ("rmse_mean", mean)):
            error = np.sqrt(((filled[m] - true[m]) ** 2).mean())
            rows.append(row(*where, metric, error))
        rows.append(row(*where, "energy_distance", energy_distance(one[m], true[m])))
    return rows


def _linear(system: GraphSystem, conditions) -> list[np.ndarray]:
    """Ridge regression on each utterance by itself, one for each pattern."""
    code = 1 << np.arange(len(system.modalities))
    of_pattern = linear_probe.predictions(system.batches, system.patterns)
    row_of = np.zeros(1 << len(system.modalities), int)
    row_of[system.patterns @ code] = np.arange(len(system.patterns))
    columns = np.arange(of_pattern.shape[1])
    return [of_pattern[row_of[c.mask @ code], columns] for c in conditions]


def optimum(system: GraphSystem, conditions, raw: Conversations, seed: int):
    """The exact conditional mean of what is hidden and of the sentiment, with the graph and, as
    'bayes_alone', from each utterance by itself.

    Returns:
      Rows on imputation, and for each condition the predictions of the first.
    """
    law = synthetic_conversations.Law(system.config.data.seed)
    scaling = [system.scaling[m] for m in system.modalities]
    rows, found = [], []
    for condition in conditions:
        for method, graph in (("bayes", True), ("bayes_alone", False)):
            parts = [
                law.posterior(
                    raw.position[r],
                    raw.speaker[r],
                    {m: x[r] for m, x in raw.features.items()},
                    condition.mask[r],
                    graph,
                )
                for r in raw.rows()
            ]
            label = np.clip(np.concatenate([p.label for p in parts]), -3, 3)
            mean = [
                (np.concatenate([p.mean[m] for p in parts]) - shift) * scale
                for m, (shift, scale) in zip(system.modalities, scaling, strict=True)
            ]
            rows += [
                r
                for r in feature_rows(system, method, mean, mean, condition, seed)
                if r["metric"] == "rmse_mean"
            ]
            if graph:
                found.append(label)
    return rows, found
