"""Classification: a label is the number of one class."""

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


@dataclasses.dataclass(frozen=True)
class Classification(ProbabilityTask):
    """One of several classes; a prediction is the probability of each.

    Attributes:
      names: of the classes, in the order of their numbers.
    """

    names: tuple[str, ...]
    kind: ClassVar[str] = "classification"
    least: ClassVar[int] = 2
    sets: ClassVar[tuple[str, ...]] = ("prediction", "within")
    label_shape: ClassVar[tuple[int, ...]] = ()
    headline: ClassVar[str] = "acc"
    main: ClassVar[tuple[str, ...]] = ("acc", "f1", "f1_macro", "uar", "regret_acc")
    metric_names: ClassVar[tuple[str, ...]] = main
    regret_of: ClassVar[Mapping[str, str]] = {"regret_acc": "acc"}

    def loss(self, output: jax.Array, label: jax.Array) -> jax.Array:
        """Returns the cross entropy (...) of outputs (..., classes) and classes (...)."""
        return optax.softmax_cross_entropy_with_integer_labels(output, label.astype(jnp.int32))

    def read(self, output: Array) -> Array:
        """Returns probabilities (..., classes)."""
        if isinstance(output, jax.Array):
            return jax.nn.softmax(output)
        raised = np.exp(output - output.max(-1, keepdims=True))
        return raised / raised.sum(-1, keepdims=True)

    def error(self, prediction: np.ndarray, label: np.ndarray) -> np.ndarray:
        """Returns - log of the true class's probability, (N,) of (N, classes)."""
        return -np.log(np.maximum(_of_truth(prediction, label), SMALLEST_PROBABILITY))

    def metrics(self, prediction: np.ndarray, label: np.ndarray) -> dict[str, float]:
        """Returns accuracy, weighted and macro F1, and the unweighted average recall over the
        classes that occur, of probabilities (N, classes) against classes (N,)."""
        # Here and in the other tasks: a served model has a task, but measures nothing.
        from sklearn.metrics import accuracy_score, f1_score, recall_score

        label, chosen = np.asarray(label).astype(int), np.argmax(prediction, axis=-1)
        there = np.unique(label)
        return {
            "acc": float(accuracy_score(label, chosen)),
            "f1": float(f1_score(label, chosen, average="weighted")),
            "f1_macro": float(f1_score(label, chosen, average="macro")),
            "uar": float(recall_score(label, chosen, average="macro", labels=there)),
        }

    def headline_of(self, prediction: np.ndarray, label: np.ndarray) -> float:
        """Returns the accuracy."""
        return float((np.argmax(prediction, -1) == label).mean())

    def calibrate(
        self,
        predictions: np.ndarray,
        label: np.ndarray,
        code: np.ndarray,
        codes: int,
        share: np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:
        """Returns 'scores' (counts, C, L) of 1 - the probability of the true class; see
        `Task.calibrate`."""

        def scored(cell: int, rows: np.ndarray, count: int) -> np.ndarray:
            return 1 - _of_truth(predictions[rows, :count].mean(1), label[rows])

        return {"scores": conformal.quantiles(scored, predictions.shape[1], code, codes, share)}

    def bounds(self, table: Mapping, predictions: Array, code: Array, level: float) -> dict:
        """Returns 'within' (N, classes) bool: the most probable class, and those that the level
        asks for beside it; see `Task.bounds`."""
        probability = predictions.mean(1)
        least = 1 - conformal.threshold(table, code, predictions.shape[1], level)
        asked_for = probability >= least[:, None] - conformal.ROUNDING
        return {"within": asked_for | (probability >= probability.max(1, keepdims=True))}

    def _members(self, answers: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
        most_probable = np.eye(self.outputs, dtype=bool)[answers["mean"].argmax(-1)]
        return most_probable, answers["within"]

    @property
    def summary(self) -> str:
        """The number of classes, and their names."""
        return f"{self.outputs} classes: {listed(self.names)}"

    @property
    def allowed(self) -> str:
        """The numbers of the classes."""
        return f"a whole number from 0 to {self.outputs - 1}"

    def _fits(self, label: np.ndarray) -> np.ndarray:
        return (label == label.round()) & (label >= 0) & (label < self.outputs)


def _of_truth(probability: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Returns the probability of the true class, (N,) of (N, classes)."""
    classes = np.asarray(label).astype(int)[:, None]
    return np.take_along_axis(np.asarray(probability), classes, -1)[:, 0]
