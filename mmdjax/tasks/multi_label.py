"""Multi label: several labels, each of which an utterance has or has not."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mmdjax.tasks import conformal
from mmdjax.tasks.conformal import Array
from mmdjax.tasks.task import SMALLEST_PROBABILITY, ProbabilityTask, listed

EACH = ("f1", "ap")


@dataclasses.dataclass(frozen=True)
class MultiLabel(ProbabilityTask):
    """Any number of labels at a time; a prediction is the probability of each.

    Attributes:
      names: of the labels.
    """

    names: tuple[str, ...]
    kind: ClassVar[str] = "multi_label"
    least: ClassVar[int] = 1
    sets: ClassVar[tuple[str, ...]] = ("prediction", "certain", "within")
    headline: ClassVar[str] = "f1"
    main: ClassVar[tuple[str, ...]] = ("f1", "ap", "acc", "regret_f1")
    # Exact probabilities are optimal for accuracy, and for weighted F1 only nearly: a method's
    # regret may fall a little below 0.
    regret_of: ClassVar[Mapping[str, str]] = {"regret_f1": "f1"}
    allowed: ClassVar[str] = "0 or 1"

    @property
    def summary(self) -> str:
        """The number of labels, and their names."""
        return f"{self.outputs} labels, any of them at once: {listed(self.names)}"

    @property
    def label_shape(self) -> tuple[int, ...]:
        """A label is 0 or 1 for each name: (labels,)."""
        return (self.outputs,)

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Means over labels, the metrics of each label, and the regret of F1."""
        return ("f1", "ap", "acc", *(f"{m}_{n}" for n in self.names for m in EACH), "regret_f1")

    def loss(self, output: jax.Array, label: jax.Array) -> jax.Array:
        """Returns the cross entropy (...) of outputs and 0 or 1 (..., labels), the mean over
        labels."""
        return optax.sigmoid_binary_cross_entropy(output, label.astype(output.dtype)).mean(-1)

    def read(self, output: Array) -> Array:
        """Returns probabilities (..., labels)."""
        module = jnp if isinstance(output, jax.Array) else np
        return module.exp(-module.logaddexp(0.0, -output))

    def error(self, prediction: np.ndarray, label: np.ndarray) -> np.ndarray:
        """Returns - log of the probability of each label's true value, their mean (N,)."""
        right = 1 - np.abs(np.asarray(label) - np.asarray(prediction))
        return -np.log(np.maximum(right, SMALLEST_PROBABILITY)).mean(-1)

    def metrics(self, prediction: np.ndarray, label: np.ndarray) -> dict[str, float]:
        """Returns weighted F1 and average precision of each label, their means, and the mean
        accuracy, of probabilities (N, labels) against 0 and 1; above a half means yes.

        Average precision is 0 for a label that nobody has, and the mean leaves it out.
        """
        from sklearn.metrics import average_precision_score, f1_score

        prediction, label = np.asarray(prediction), np.asarray(label).astype(int)
        chosen, there = (prediction > 0.5).astype(int), label.any(0)
        columns = list(zip(prediction.T, chosen.T, label.T, strict=True))
        f1 = [float(f1_score(y, yes, average="weighted")) for _, yes, y in columns]
        ap = [float(average_precision_score(y, p)) if y.any() else 0.0 for p, _, y in columns]
        scores = {
            "f1": float(np.mean(f1)),
            "ap": float(np.mean(ap, where=there)) if there.any() else 0.0,
            "acc": float((chosen == label).mean()),
        }
        for name, *values in zip(self.names, f1, ap, strict=True):
            scores |= {f"{m}_{name}": v for m, v in zip(EACH, values, strict=True)}
        return scores

    def calibrate(
        self,
        predictions: np.ndarray,
        label: np.ndarray,
        code: np.ndarray,
        codes: int,
        share: np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:
        """Returns 'scores' (counts, C, L, labels) of 1 - the probability of each label's true
        value; see `Task.calibrate`."""

        def scored(cell: int, rows: np.ndarray, count: int) -> np.ndarray:
            return np.abs(label[rows] - predictions[rows, :count].mean(1))

        return {"scores": conformal.quantiles(scored, predictions.shape[1], code, codes, share)}

    def bounds(self, table: Mapping, predictions: Array, code: Array, level: float) -> dict:
        """Returns 'low' and 'high' (N, labels) of 0 and 1, and 'within', where 'high' is 1.

        The set of a label holds its more probable value, and the other where the level asks for it:
        (0, 0) means absent, (1, 1) present, (0, 1) that neither can be excluded; see `Task.bounds`.
        """
        probability = predictions.mean(1)
        most = conformal.threshold(table, code, predictions.shape[1], level) + conformal.ROUNDING
        absent = (probability <= most) | (probability <= 0.5)
        present = (1 - probability <= most) | (probability >= 0.5)
        low, high = (sure.astype(probability.dtype) for sure in (~absent, present))
        return {"low": low, "high": high, "within": high > 0}

    def _members(self, answers: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
        """Returns the labels that are probable, those that are certain, those not excluded."""
        return answers["mean"] > 0.5, answers["low"] > 0.5, answers["within"]

    def _fits(self, label: np.ndarray) -> np.ndarray:
        return (label == 0) | (label == 1)
