"""From predictions for every availability pattern to rows of both protocols.

A draw depends on its utterance, pattern and key alone, so the random protocol needs no draws of
its own: each utterance's prediction is that of the pattern its mask names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from mmdjax.data.missing.patterns import pattern_name, random_mask
from mmdjax.evaluation.metrics import sentiment_metrics


def row(method: str, protocol: str, condition: str, seed: int, metric: str, value) -> dict:
    return {
        "method": method,
        "protocol": protocol,
        "condition": condition,
        "seed": seed,
        "metric": metric,
        "value": float(value),
    }


def rate_name(rate: float) -> str:
    """'0.3'; more decimals where the rate has them."""
    return f"{rate:.1f}" if round(rate, 1) == rate else f"{rate:g}"


def random_masks(samples: int, modalities: int, rates, seed: int) -> dict[str, np.ndarray]:
    """rate as text -> (N, M) bool; the same for every method."""
    return {rate_name(rate): random_mask(samples, modalities, rate, seed) for rate in rates}


def prediction_rows(
    predictions: Mapping[str, np.ndarray],
    label: np.ndarray,
    patterns: np.ndarray,
    modalities,
    masks: Mapping[str, np.ndarray],
    seed: int,
) -> list[dict]:
    """Rows of the fixed and the random protocol, and the regret to `bayes` where it is given.

    Args:
      predictions: method -> (P, N), one row of predictions for each pattern.
      label: (N,).
      patterns: (P, M).
      masks: from `random_masks`.
    """
    code = 1 << np.arange(patterns.shape[1])
    row_of = {int(p @ code): index for index, p in enumerate(patterns)}
    chosen = {("fixed", pattern_name(p, modalities)): i for i, p in enumerate(patterns)}
    for rate, mask in masks.items():
        chosen["random", rate] = np.array([row_of[int(m @ code)] for m in mask])
    columns, rows = np.arange(len(label)), []
    for where, index in chosen.items():
        found = {method: p[index, columns] for method, p in predictions.items()}
        rows += scored(found, label, *where, seed)
    return rows + realised_rates(masks, seed)


def scored(
    predictions: Mapping[str, np.ndarray],
    label: np.ndarray,
    protocol: str,
    condition: str,
    seed: int,
    metrics: Callable = sentiment_metrics,
) -> list[dict]:
    """Rows of one condition: the metrics of each method, and its regret to `bayes` if given.

    Args:
      predictions: method -> (N, ...), as `metrics` takes them with label (N,).
    """
    scores, rows = {name: metrics(p, label) for name, p in predictions.items()}, []
    for method, values in scores.items():
        if "bayes" in scores:
            best = scores["bayes"]
            values["regret_acc2"] = 100 * (best["acc2_nonzero"] - values["acc2_nonzero"])
            values["regret_mae"] = values["mae"] - best["mae"]
        rows += [row(method, protocol, condition, seed, m, v) for m, v in values.items()]
    return rows


def realised_rates(masks: Mapping[str, np.ndarray], seed: int) -> list[dict]:
    """The share that masks (N, M) really hide."""
    return [
        row("protocol", "random", rate, seed, "missing_rate", 1 - mask.mean())
        for rate, mask in masks.items()
    ]
