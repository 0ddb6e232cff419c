"""From predictions for every availability pattern to rows of both protocols.

A draw depends on its utterance, pattern and key alone, so the random protocol needs no draws of
its own: each utterance's prediction is that of the pattern its mask names.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mmdjax.data.missing import pattern_name, random_mask
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
    for (protocol, condition), index in chosen.items():
        scores = {
            method: sentiment_metrics(p[index, columns], label) for method, p in predictions.items()
        }
        for method, values in scores.items():
            if "bayes" in scores:
                best = scores["bayes"]
                values["regret_acc2"] = 100 * (best["acc2_nonzero"] - values["acc2_nonzero"])
                values["regret_mae"] = values["mae"] - best["mae"]
            rows += [row(method, protocol, condition, seed, m, v) for m, v in values.items()]
    for rate, mask in masks.items():
        rows.append(row("protocol", "random", rate, seed, "missing_rate", 1 - mask.mean()))
    return rows
