"""Regression: a label is a number in a range, or several numbers in the same range."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from mmdjax.errors import UserError, choice, require
from mmdjax.tasks import conformal
from mmdjax.tasks.conformal import Array
from mmdjax.tasks.task import Task, checked_names, listed, plain_number
from mmdjax.types import known_labels

METRIC_SETS = ("auto", "sentiment", "ch_sims", "plain")
SENTIMENT = (
    "acc2_nonzero", "f1_nonzero", "acc2_with_zero", "f1_with_zero", "acc7", "acc5", "mae", "corr"
)  # fmt: skip
CH_SIMS = ("acc2", "f1", "acc3", "acc5", "mae", "corr")
# Upper ends of the classes of ACC2, ACC3 and ACC5 but the last (Yu et al. 2020).
ENDS = {"acc2": (0.0,), "acc3": (-0.1, 0.1), "acc5": (-0.7, -0.1, 0.1, 0.7)}
PLAIN = ("mae", "corr", "rmse_label", "ccc")
EACH = ("mae", "corr", "ccc")  # of several outputs, and their means
CONSTANT = 1e-12  # a standard deviation below which nothing varies


@dataclasses.dataclass(frozen=True)
class Regression(Task):
    """One number in [low, high], or one of each name.

    A head's output o means the label middle + unit o. Of sentiment an output is the label itself.
    Otherwise the middle is the median of the training labels, and the unit their standard
    deviation (`fitted`), so that neither learning rates nor where training starts depend on the
    range; before they are known, the middle of the range and a sixth of it.

    Attributes:
      low, high: the range of every output.
      names: of several outputs, such as valence, arousal, dominance.
      metric_set: 'sentiment' (ACC2, F1, ACC7, ACC5, MAE, correlation), 'ch_sims' (ACC2, F1, ACC3,
        ACC5, MAE, correlation; labels in [-1, 1]), 'plain' (MAE, correlation, RMSE, CCC), or
        'auto': 'sentiment' for one output in [-3, 3], otherwise 'plain'.
      medians, deviations: of the training labels, of each output; () before they are known.
    """

    low: float
    high: float
    names: tuple[str, ...] = ()
    metric_set: str = "auto"
    medians: tuple[float, ...] = ()
    deviations: tuple[float, ...] = ()
    kind: ClassVar[str] = "regression"

    def __post_init__(self) -> None:
        """Raises `UserError` for an empty range, names that are equal, or an unknown metric set."""
        for name in ("low", "high"):
            object.__setattr__(self, name, float(getattr(self, name)))
        if not -np.inf < self.low < self.high < np.inf:
            raise UserError(
                f"regression from {self.low:g} to {self.high:g}; allowed: a number and a higher one"
            )
        object.__setattr__(self, "names", checked_names(self.kind, self.names, 0))
        for name in ("medians", "deviations"):
            values = tuple(map(float, getattr(self, name)))
            object.__setattr__(self, name, values)
            counts = f"none, or {self.outputs}"
            require(len(values) in (0, self.outputs), f"{len(values)} {name}", counts)
        require(all(d > 0 for d in self.deviations), "a deviation of 0", "above 0")
        choice("metric set", self.metric_set, METRIC_SETS)
        title = f"metric set {self.metric_set!r}"
        alone = self.metric_set in ("auto", "plain") or not self.label_shape
        require(alone, f"{title} of {self.outputs} outputs", "auto, plain")
        fits = self.metric_set != "ch_sims" or (self.low, self.high) == (-1, 1)
        require(fits, f"{title} of labels from {self.low:g} to {self.high:g}", "from -1 to 1")

    @property
    def label_shape(self) -> tuple[int, ...]:
        """A label is one number, (), or one for each output, (outputs,)."""
        return (self.outputs,) if self.outputs > 1 else ()

    @property
    def middle(self) -> float | np.ndarray:
        """The label that an output of 0 means: a number, or (outputs,)."""
        return self._each(self.medians or ((self.low + self.high) / 2,) * self.outputs)

    @property
    def unit(self) -> float | np.ndarray:
        """The difference of labels that an output of 1 means: a number, or (outputs,)."""
        return self._each(self.deviations or ((self.high - self.low) / 6,) * self.outputs)

    def _each(self, values: tuple[float, ...]) -> float | np.ndarray:
        # Of one output a number of Python's, which widens neither numpy's float32 nor jax's.
        return np.array(values, np.float32) if self.label_shape else values[0]

    def fitted(self, label: np.ndarray) -> Regression:
        """Return the task with the medians and deviations of training labels, (N,) or (N,
        outputs), NaN where there is none; sentiment's stays as it is. An output that does not vary
        keeps a sixth of the range."""
        if self.convention == "sentiment":
            return self
        known = np.asarray(label, np.float64)[known_labels(label)].reshape(-1, self.outputs)
        deviations = known.std(0)
        deviations = np.where(deviations > CONSTANT, deviations, (self.high - self.low) / 6)
        medians = tuple(np.median(known, axis=0).tolist())
        return dataclasses.replace(self, medians=medians, deviations=tuple(deviations.tolist()))

    @property
    def convention(self) -> str:
        """The metric set that 'auto' stands for: 'sentiment', 'ch_sims' or 'plain'."""
        if self.metric_set != "auto":
            return self.metric_set
        return "sentiment" if (self.low, self.high) == (-3, 3) and not self.label_shape else "plain"

    @property
    def headline(self) -> str:
        """ACC2 of the conventions of sentiment, otherwise MAE: the median is optimal for both, so
        that there is an optimum to compare with."""
        return {"sentiment": "acc2_nonzero", "ch_sims": "acc2"}.get(self.convention, "mae")

    @property
    def regret_of(self) -> Mapping[str, str]:
        """The regret of MAE, and that of ACC2 where there is one."""
        acc2 = {} if self.convention == "plain" else {"regret_acc2": self.headline}
        return acc2 | {"regret_mae": "mae"}

    @property
    def main(self) -> tuple[str, ...]:
        """Without metrics that nearly repeat others, and without those of single outputs."""
        if self.convention == "sentiment":
            return ("acc2_nonzero", "f1_nonzero", "acc7", "mae", "corr", "regret_acc2")
        if self.convention == "ch_sims":
            return (*CH_SIMS, "regret_acc2")
        return (*(EACH if self.label_shape else PLAIN), "regret_mae")

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Those of the metric set, single outputs' after the means, and the regrets."""
        if self.label_shape:
            return (*EACH, *(f"{m}_{name}" for name in self.names for m in EACH), "regret_mae")
        names = {"sentiment": SENTIMENT, "ch_sims": CH_SIMS, "plain": PLAIN}[self.convention]
        return (*names, *self.regret_of)

    def loss(self, output: jax.Array, label: jax.Array) -> jax.Array:
        """Returns L1 in the head's units, (...) of outputs (..., outputs); of several the mean."""
        if not self.label_shape:
            return jnp.abs(output[..., 0] - self._standard(label))
        return jnp.abs(output - self._standard(label)).mean(-1)

    def read(self, output: Array) -> Array:
        """Returns (...) numbers, of several outputs (..., outputs), in the label's units."""
        output = output if self.label_shape else output[..., 0]
        return output if self._identity else self.middle + self.unit * output

    @property
    def _identity(self) -> bool:
        return not self.label_shape and self.middle == 0 and self.unit == 1

    def _standard(self, label: jax.Array) -> jax.Array:
        return label if self._identity else (label - self.middle) / self.unit

    def error(self, prediction: np.ndarray, label: np.ndarray) -> np.ndarray:
        """Returns the absolute error (N,) in the loss's units; the mean over several outputs."""
        error = np.abs(np.asarray(prediction) - np.asarray(label))
        error = error if self._identity else error / self.unit
        return error.mean(-1) if self.label_shape else error

    def metrics(self, prediction: np.ndarray, label: np.ndarray) -> dict[str, float]:
        """Returns the metrics of predictions against labels, (N,) or (N, outputs) both."""
        if not self.label_shape:
            of_set = {"sentiment": sentiment_metrics, "ch_sims": ch_sims_metrics}
            return of_set.get(self.convention, plain_metrics)(prediction, label)
        columns = zip(np.asarray(prediction).T, np.asarray(label).T, strict=True)
        each = [plain_metrics(*pair) for pair in columns]
        scores = {m: float(np.mean([values[m] for values in each])) for m in EACH}
        for name, values in zip(self.names, each, strict=True):
            scores |= {f"{m}_{name}": values[m] for m in EACH}
        return scores

    def headline_of(self, prediction: np.ndarray, label: np.ndarray) -> float:
        """Returns the metric `headline` alone; NaN where no label is other than 0."""
        if self.headline == "mae":
            return float(np.abs(prediction - label).mean())
        if self.headline != "acc2_nonzero":
            return super().headline_of(prediction, label)
        some = label != 0
        right = (prediction > 0) == (label > 0)
        return float(right[some].mean()) if some.any() else np.nan

    def calibrate(
        self,
        predictions: np.ndarray,
        label: np.ndarray,
        code: np.ndarray,
        codes: int,
        share: np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:
        """Returns the tables of `conformal.calibrate`; see `Task.calibrate`."""
        smallest = conformal.SMALLEST_NOISE * self.unit**2
        return conformal.calibrate(predictions, label, code, codes, smallest, share)

    def bounds(self, table: Mapping, predictions: Array, code: Array, level: float) -> dict:
        """Returns the ends 'low' and 'high' of intervals, (N,) or (N, outputs), each output's own;
        see `Task.bounds`."""
        low, high = conformal.interval(table, predictions, code, level)
        return {"low": low, "high": high}

    def columns(self) -> tuple[str, ...]:
        """Returns prediction, low, high and spread; of several outputs those of each, by name."""
        columns = ("prediction", "low", "high", "spread")
        if not self.label_shape:
            return columns
        return tuple(f"{column}_{name}" for name in self.names for column in columns)

    def lines(self, answers: Mapping[str, np.ndarray]) -> Iterator[tuple[str, ...]]:
        """Yields the cells of `columns`, of 'mean', 'low', 'high', 'spread', each (N, ...)."""
        columns = [answers[name] for name in ("mean", "low", "high", "spread")]
        for values in np.stack(columns, -1).reshape(len(columns[0]), -1):
            yield tuple(plain_number(v) for v in values)

    @property
    def summary(self) -> str:
        """The range, the metric set, and names of several outputs."""
        what = f"{self.outputs} numbers ({listed(self.names)})" if self.label_shape else "numbers"
        return f"{what} from {self.low:g} to {self.high:g}, metrics {self.convention}"

    @property
    def allowed(self) -> str:
        """The range."""
        return f"a number from {self.low:g} to {self.high:g}"

    def _fits(self, label: np.ndarray) -> np.ndarray:
        # The ends as labels have them: 0.3 of float32 lies above that of float64.
        return (label >= np.float32(self.low)) & (label <= np.float32(self.high))


def sentiment_metrics(prediction: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """Returns all metrics of predictions (N,) against labels (N,) in [-3, 3]; fractions.

    `nonzero` drops label 0 and compares > 0 with > 0; `with_zero` compares >= 0 with >= 0. F1 is
    weighted. ACC7 and ACC5 clip to +-3 and +-2 and round half to even. `corr` is Pearson's; 0
    where either side is constant.
    """
    from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error

    prediction, label = np.asarray(prediction, np.float64), np.asarray(label, np.float64)
    nonzero = label != 0
    scores = {}
    for name, positive, truth in (
        ("nonzero", prediction[nonzero] > 0, label[nonzero] > 0),
        ("with_zero", prediction >= 0, label >= 0),
    ):
        scores[f"acc2_{name}"] = float(accuracy_score(truth, positive))
        scores[f"f1_{name}"] = float(f1_score(truth, positive, average="weighted"))
    for classes, limit in ((7, 3), (5, 2)):
        rounded = [np.round(np.clip(y, -limit, limit)) for y in (label, prediction)]
        scores[f"acc{classes}"] = float(accuracy_score(*rounded))
    scores["mae"] = float(mean_absolute_error(label, prediction))
    return scores | {"corr": correlation(prediction, label)}


def ch_sims_metrics(prediction: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """Returns all metrics of predictions (N,) against labels (N,) in [-1, 1]; fractions.

    Classes are those of Yu et al. (2020), "CH-SIMS", as its toolkit has them: a number belongs to
    the first class whose upper end it does not exceed, of `ENDS`. F1 is that of the two classes,
    weighted; predictions are clipped to the range.
    """
    from sklearn.metrics import accuracy_score, f1_score

    prediction, label = (np.clip(np.asarray(a, np.float64), -1, 1) for a in (prediction, label))
    # A label of 0.1 in float32 lies above that of float64.
    classes = {
        name: [np.searchsorted(np.float32(ends), np.float32(a)) for a in (label, prediction)]
        for name, ends in ENDS.items()
    }
    scores = {name: float(accuracy_score(*pair)) for name, pair in classes.items()}
    scores["f1"] = float(f1_score(*classes["acc2"], average="weighted"))
    scores |= plain_metrics(prediction, label)
    return {name: scores[name] for name in CH_SIMS}


def plain_metrics(prediction: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """Returns MAE, correlation, RMSE and concordance (Lin 1989) of predictions (N,)."""
    prediction, label = np.asarray(prediction, np.float64), np.asarray(label, np.float64)
    error = prediction - label
    total = prediction.var() + label.var() + error.mean() ** 2
    shared = ((prediction - prediction.mean()) * (label - label.mean())).mean()
    return {
        "mae": float(np.abs(error).mean()),
        "corr": correlation(prediction, label),
        "rmse_label": float(np.sqrt((error**2).mean())),
        "ccc": float(2 * shared / total) if total > CONSTANT**2 else 0.0,
    }


def correlation(prediction: np.ndarray, label: np.ndarray) -> float:
    """Returns Pearson's correlation of (N,) and (N,), 0 where either is constant."""
    constant = prediction.std() < CONSTANT or label.std() < CONSTANT
    return 0.0 if constant else float(np.corrcoef(prediction, label)[0, 1])
