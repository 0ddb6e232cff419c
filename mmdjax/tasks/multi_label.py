"""Multi label: several labels, each of which an utterance has or has not."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import ClassVar

import numpy as np
import optax
from sklearn.metrics import average_precision_score, f1_score

from mmdjax.tasks import conformal
from mmdjax.tasks.task import (
    SMALLEST_PROBABILITY,
    Task,
    checked_names,
    numbers_of,
    plain_number,
    root_mean_square,
)

EACH = ("f1", "ap")


@dataclasses.dataclass(frozen=True)
class MultiLabel(Task):
    """Any number of labels at a time; a prediction is the probability of each.

    Attributes:
      names: of the labels.
    """

    names: tuple[str, ...]
    kind: ClassVar[str] = "multi_label"

    def __post_init__(self):
        """Raises `UserError` for no name, or two that are equal."""
        object.__setattr__(self, "names", checked_names(self.kind, self.names, 1))

    @property
    def label_shape(self) -> tuple[int, ...]:
        """A label is 0 or 1 for each name: (labels,)."""
        return (self.outputs,)

    @property
    def headline(self) -> str:
        """Figures and words are about F1."""
        return "f1"

    @property
    def main(self) -> tuple[str, ...]:
        """The main table has the means over labels."""
        return ("f1", "ap", "acc", "regret_f1")

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Those of `metrics`, and the regret of F1."""
        return ("f1", "ap", "acc", *(f"{m}_{n}" for n in self.names for m in EACH), "regret_f1")

    def loss(self, output, label):
        """Returns the cross entropy (...) of outputs and 0 or 1 (..., labels), the mean over
        labels."""
        return optax.sigmoid_binary_cross_entropy(output, label.astype(output.dtype)).mean(-1)

    def read(self, output):
        """Returns probabilities (..., labels)."""
        own = numbers_of(output)
        return own.exp(-own.logaddexp(0.0, -output))

    def error(self, prediction, label) -> np.ndarray:
        """Returns - log of the probability of each label's true value, their mean (N,)."""
        right = 1 - np.abs(np.asarray(label) - np.asarray(prediction))
        return -np.log(np.maximum(right, SMALLEST_PROBABILITY)).mean(-1)

    def metrics(self, prediction, label) -> dict[str, float]:
        """Returns weighted F1 and average precision of each label, their means, and the mean
        accuracy, of probabilities (N, labels) against 0 and 1; above a half means yes.

        Average precision is 0 for a label that nobody has, and the mean leaves it out.
        """
        prediction, label = np.asarray(prediction), np.asarray(label).astype(int)
        chosen, there = (prediction > 0.5).astype(int), label.any(0)
        columns = list(zip(prediction.T, chosen.T, label.T, strict=True))
        f1 = [float(f1_score(y, yes, average="weighted")) for _, yes, y in columns]
        ap = [float(average_precision_score(y, p)) if y.any() else 0.0 for p, _, y in columns]
        found = {
            "f1": float(np.mean(f1)),
            "ap": float(np.mean(ap, where=there)) if there.any() else 0.0,
            "acc": float((chosen == label).mean()),
        }
        for name, *values in zip(self.names, f1, ap, strict=True):
            found |= {f"{m}_{name}": v for m, v in zip(EACH, values, strict=True)}
        return found

    def regrets(self, values: Mapping[str, float], best: Mapping[str, float]) -> dict[str, float]:
        """Returns the regret of F1, in points.

        Exact probabilities are optimal for accuracy, and for weighted F1 only nearly: a method's
        regret may fall a little below 0.
        """
        return {"regret_f1": 100 * (best["f1"] - values["f1"])}

    def calibrate(self, predictions, label, code, codes: int) -> dict[str, np.ndarray]:
        """Returns the table of `conformal.calibrate_labels`; see `Task.calibrate`."""
        return conformal.calibrate_labels(predictions, label, code, codes)

    def bounds(self, table: Mapping, predictions, known, level: float) -> dict:
        """Returns 'low' and 'high' (N, labels) of 0 and 1, and 'within', where 'high' is 1.

        Between them lies what each label may be: (0, 0) absent, (1, 1) present, (0, 1) that neither
        can be excluded; see `Task.bounds`.
        """
        low, high = conformal.label_bounds(table, predictions.mean(1), known, level)
        return {"low": low, "high": high, "within": high > 0}

    def spread(self, predictions):
        """Returns the root mean square over labels of the standard deviation over draws, (N,)."""
        return root_mean_square(conformal.spread(predictions))

    def columns(self) -> tuple[str, ...]:
        """Returns prediction, certain, within, spread, and p_NAME of each label."""
        names = (f"p_{name}" for name in self.names)
        return ("prediction", "certain", "within", "spread", *names)

    def lines(self, found: Mapping[str, np.ndarray]) -> Iterator[tuple[str, ...]]:
        """Yields the labels that are more probable than not, that are certain ('low' is 1), and
        that cannot be excluded, each joined by +; the spread; and the probabilities.

        Args:
          found: 'mean', 'low' and 'within' (N, labels), 'spread' (N,).
        """
        parts = (found[name] for name in ("mean", "low", "within", "spread"))
        for mean, low, within, spread in zip(*parts, strict=True):
            sets = (self._joined(chosen) for chosen in (mean > 0.5, low > 0.5, within))
            yield (*sets, *(plain_number(v) for v in (spread, *mean)))

    def _joined(self, chosen) -> str:
        return "+".join(name for name, yes in zip(self.names, chosen, strict=True) if yes)

    @property
    def _allowed(self) -> str:
        return "0 or 1"

    def _fits(self, label: np.ndarray) -> np.ndarray:
        return (label == 0) | (label == 1)
