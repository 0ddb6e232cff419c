"""Classification: a label is the number of one class."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.metrics import accuracy_score, f1_score, recall_score

from mmdjax.tasks import conformal
from mmdjax.tasks.task import (
    SMALLEST_PROBABILITY,
    Task,
    checked_names,
    plain_number,
    root_mean_square,
)


@dataclasses.dataclass(frozen=True)
class Classification(Task):
    """One of several classes; a prediction is the probability of each.

    Attributes:
      names: of the classes, in the order of their numbers.
    """

    names: tuple[str, ...]
    kind: ClassVar[str] = "classification"

    def __post_init__(self):
        """Raises `UserError` for fewer than two names, or two that are equal."""
        object.__setattr__(self, "names", checked_names(self.kind, self.names, 2))

    @property
    def label_shape(self) -> tuple[int, ...]:
        """A label is one number: ()."""
        return ()

    @property
    def headline(self) -> str:
        """Figures and words are about accuracy."""
        return "acc"

    @property
    def main(self) -> tuple[str, ...]:
        """The main table has all metrics."""
        return ("acc", "f1", "f1_macro", "uar", "regret_acc")

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Those of `metrics`, and the regret of accuracy."""
        return self.main

    def loss(self, output, label):
        """Returns the cross entropy (...) of outputs (..., classes) and classes (...)."""
        return optax.softmax_cross_entropy_with_integer_labels(output, label.astype(jnp.int32))

    def read(self, output):
        """Returns probabilities (..., classes)."""
        if isinstance(output, jax.Array):
            return jax.nn.softmax(output)
        raised = np.exp(output - output.max(-1, keepdims=True))
        return raised / raised.sum(-1, keepdims=True)

    def error(self, prediction, label) -> np.ndarray:
        """Returns - log of the true class's probability, (N,) of (N, classes)."""
        chosen = np.asarray(label).astype(int)[:, None]
        probability = np.take_along_axis(np.asarray(prediction), chosen, -1)[:, 0]
        return -np.log(np.maximum(probability, SMALLEST_PROBABILITY))

    def metrics(self, prediction, label) -> dict[str, float]:
        """Returns accuracy, weighted and macro F1, and the unweighted average recall over the
        classes that occur, of probabilities (N, classes) against classes (N,)."""
        label, chosen = np.asarray(label).astype(int), np.argmax(prediction, axis=-1)
        there = np.unique(label)
        return {
            "acc": float(accuracy_score(label, chosen)),
            "f1": float(f1_score(label, chosen, average="weighted")),
            "f1_macro": float(f1_score(label, chosen, average="macro")),
            "uar": float(recall_score(label, chosen, average="macro", labels=there)),
        }

    def regrets(self, values: Mapping[str, float], best: Mapping[str, float]) -> dict[str, float]:
        """Returns the regret of accuracy, in points."""
        return {"regret_acc": 100 * (best["acc"] - values["acc"])}

    def calibrate(self, predictions, label, code, codes: int) -> dict[str, np.ndarray]:
        """Returns the table of `conformal.calibrate_classes`; see `Task.calibrate`."""
        return conformal.calibrate_classes(predictions, label, code, codes)

    def bounds(self, table: Mapping, predictions, known, level: float) -> dict:
        """Returns 'within' (N, classes) bool, the set of classes; see `Task.bounds`."""
        return {"within": conformal.class_set(table, predictions.mean(1), known, level)}

    def spread(self, predictions):
        """Returns the root mean square over classes of the standard deviation over draws, (N,)."""
        return root_mean_square(conformal.spread(predictions))

    def columns(self) -> tuple[str, ...]:
        """Returns prediction, within, spread, and p_NAME of each class."""
        return ("prediction", "within", "spread", *(f"p_{name}" for name in self.names))

    def lines(self, found: Mapping[str, np.ndarray]) -> Iterator[tuple[str, ...]]:
        """Yields the name of the most probable class, those of the set joined by +, the spread and
        the probabilities, of 'mean' and 'within' (N, classes) and 'spread' (N,)."""
        parts = (found[name] for name in ("mean", "within", "spread"))
        for mean, within, spread in zip(*parts, strict=True):
            members = "+".join(self.names[i] for i in np.flatnonzero(within))
            cells = (plain_number(v) for v in (spread, *mean))
            yield (self.names[int(np.argmax(mean))], members, *cells)

    @property
    def _allowed(self) -> str:
        return f"a whole number from 0 to {self.outputs - 1}"

    def _fits(self, label: np.ndarray) -> np.ndarray:
        return (label == label.round()) & (label >= 0) & (label < self.outputs)
