"""The field's metrics, in the conventions its code uses; both ACC2 conventions, named."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error
from sklearn.metrics.pairwise import euclidean_distances


def sentiment_metrics(prediction: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """All metrics of predictions (N,) against labels (N,) in [-3, 3]; fractions, not percent.

    `nonzero` drops label 0 and compares > 0 with > 0; `with_zero` compares >= 0 with >= 0. F1 is
    weighted. ACC7 and ACC5 clip to +-3 and +-2 and round half to even. `corr` is Pearson's; 0
    where either side is constant.
    """
    prediction, label = np.asarray(prediction, np.float64), np.asarray(label, np.float64)
    kept = label != 0
    result = {}
    for name, yes, truth in (
        ("nonzero", prediction[kept] > 0, label[kept] > 0),
        ("with_zero", prediction >= 0, label >= 0),
    ):
        result[f"acc2_{name}"] = float(accuracy_score(truth, yes))
        result[f"f1_{name}"] = float(f1_score(truth, yes, average="weighted"))
    for classes, limit in ((7, 3), (5, 2)):
        rounded = [np.round(np.clip(y, -limit, limit)) for y in (label, prediction)]
        result[f"acc{classes}"] = float(accuracy_score(*rounded))
    result["mae"] = float(mean_absolute_error(label, prediction))
    constant = prediction.std() < 1e-12 or label.std() < 1e-12
    result["corr"] = 0.0 if constant else float(np.corrcoef(prediction, label)[0, 1])
    return result


def class_metrics(probability: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """Accuracy and weighted F1 of probabilities (N, classes) against classes (N,)."""
    label, chosen = np.asarray(label).astype(int), np.argmax(probability, axis=-1)
    return {
        "acc": float(accuracy_score(label, chosen)),
        "f1": float(f1_score(label, chosen, average="weighted")),
    }


def energy_distance(drawn: np.ndarray, true: np.ndarray) -> float:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'| (Szekely & Rizzo 2013) over sqrt of the dimensions.

    The unbiased form: no row is paired with itself nor, since row i of both belongs to utterance i,
    with its own counterpart. So it may fall just below 0.

    Args:
      drawn, true: (N, Q), paired by row.
    """
    drawn, true = (np.asarray(a, np.float64) for a in (drawn, true))

    def mean_distance(x, y):
        distance = euclidean_distances(x, y)  # one matrix product
        return (distance.sum() - np.trace(distance)) / (len(x) * (len(x) - 1))

    twice = 2 * mean_distance(drawn, true) - mean_distance(drawn, drawn) - mean_distance(true, true)
    return float(twice / drawn.shape[1] ** 0.5)


def rmse(filled: np.ndarray, true: np.ndarray, mask: np.ndarray) -> float:
    """Root mean square error over entries (N, T, D) of valid frames mask (N, T)."""
    return float(np.sqrt(((filled - true)[mask] ** 2).mean()))
