"""What all tasks have in common, and how each metric is printed and compared.

A task says what a label is: the size of the head that predicts it, the loss, how outputs are read,
by which metrics predictions are judged, how sure they are, and how they stand in a table. Tasks are
frozen and hashable; two that are equal share compiled programs.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from mmdjax.errors import UserError
from mmdjax.tasks import conformal
from mmdjax.tasks.conformal import Array
from mmdjax.types import known_labels

SMALLEST_PROBABILITY = 1e-12


@dataclasses.dataclass(frozen=True)
class Metric:
    """The names of a metric, and how it is printed and compared.

    Attributes:
      name: as in rows of results.
      label: as in tables and figures, without the unit.
      unit: '%' for fractions, which are printed times 100; 'points' for differences of them, which
        are in hundredths already; '' otherwise.
      higher: True where a higher value is better.
      digits: decimals that are printed; below 0 the significant digits of a cost.
    """

    name: str
    label: str
    unit: str = ""
    higher: bool = False
    digits: int = 3

    @property
    def scale(self) -> int:
        """Factor of printed values."""
        return 100 if self.unit == "%" else 1

    def title(self, arrow: bool = False) -> str:
        """Returns 'ACC2 non-zero (%)'; with `arrow` also the direction that is better."""
        unit = f" ({self.unit})" if self.unit else ""
        return f"{self.label}{unit}" + (f" {'↑' if self.higher else '↓'}" if arrow else "")

    def decimals(self, printed: float) -> int:
        """Returns the decimals in which a value, already times `scale`, is printed."""
        if self.digits >= 0:
            return self.digits
        if printed == int(printed):
            return 0
        return min(max(-self.digits - 1 - math.floor(math.log10(abs(printed))), 0), 4)


_FRACTIONS = {
    "acc2_nonzero": "ACC2 non-zero",
    "f1_nonzero": "F1 non-zero",
    "acc2_with_zero": "ACC2 with zero",
    "f1_with_zero": "F1 with zero",
    "acc2": "ACC2",
    "acc3": "ACC3",
    "acc7": "ACC7",
    "acc5": "ACC5",
    "acc": "accuracy",
    "f1": "F1",
    "f1_macro": "F1 macro",
    "uar": "UAR",
    "ap": "AP",
}
_POINTS = {"regret_acc2": "regret ACC2", "regret_acc": "regret accuracy", "regret_f1": "regret F1"}
METRICS = {
    entry.name: entry
    for entry in (
        *(Metric(name, label, "%", True, 1) for name, label in _FRACTIONS.items()),
        Metric("mae", "MAE"),
        Metric("corr", "correlation", higher=True),
        Metric("ccc", "CCC", higher=True),
        Metric("rmse_label", "RMSE of the label"),
        *(Metric(name, label, "points", digits=1) for name, label in _POINTS.items()),
        Metric("regret_mae", "regret MAE"),
        # Of what is drawn, and of what it costs.
        Metric("energy_distance", "energy distance"),
        Metric("sliced_wasserstein", "sliced Wasserstein distance"),
        Metric("spread", "spread over the truth's", higher=True),
        Metric("coverage", "coverage of 90 % intervals", "%", True, 1),
        Metric("with_truth", "correlation with the truth", higher=True),
        Metric("with_draws", "correlation of two draws", higher=True),
        Metric("rmse", "RMSE, one draw"),
        Metric("rmse_mean", "RMSE, mean of K draws"),
        Metric("missing_rate", "missing rate"),
        Metric("seconds", "seconds", digits=-3),
        Metric("nfe", "NFE", digits=-3),
        Metric("parameters", "parameters", digits=-3),
    )
}


def metric(name: str) -> Metric:
    """Returns the entry of a metric; 'mae_valence' is 'mae' of one output, and an unknown name is
    a number of which less is better."""
    if name in METRICS:
        return METRICS[name]
    known = [m for m in METRICS if name.startswith(f"{m}_")]
    if not known:
        return Metric(name, name.replace("_", " "))
    base = METRICS[max(known, key=len)]
    rest = name[len(base.name) + 1 :].replace("_", " ")
    return dataclasses.replace(base, name=name, label=f"{base.label} {rest}")


class Task:
    """The common interface; see `regression`, `classification` and `multi_label`.

    Shapes: one output (N,), otherwise (N, outputs); "(...)" stands for any leading axes. Labels are
    float32, or whole numbers of classes. A prediction is what `read` makes of outputs: a number for
    each output, or probabilities of classes or labels; averages of predictions are predictions.

    Attributes:
      kind: the name by which settings ask for it.
      names: of outputs, classes or labels.
      label_shape: () or (outputs,), the shape of one utterance's label.
      headline: name of the metric that figures and sentences are about.
      main: names of the metrics of the main table, regret last.
      metric_names: names of all that `metrics` and `regrets` return, in order.
      regret_of: name of a regret -> the metric whose distance to the optimum's it is.
      allowed: the labels that are allowed, in words.
      summary: what a label is, in words.
    """

    kind: ClassVar[str]
    names: tuple[str, ...]
    label_shape: tuple[int, ...]
    headline: str
    main: tuple[str, ...]
    metric_names: tuple[str, ...]
    regret_of: Mapping[str, str]
    allowed: str
    summary: str

    @property
    def outputs(self) -> int:
        """Size of the head."""
        return max(1, len(self.names))

    def fitted(self, label: np.ndarray) -> Task:
        """Returns the task with what it takes from training labels (N, ...), NaN where there is
        none."""
        return self

    def loss(self, output: jax.Array, label: jax.Array) -> jax.Array:
        """Returns the training loss (...) of outputs (..., outputs); jax."""
        raise NotImplementedError

    def losses(self, output: jax.Array, label: jax.Array) -> jax.Array:
        """Returns `loss` (...), 0 and without a gradient where there is no label (NaN)."""
        unknown = jnp.isnan(label.astype(jnp.float32))
        losses = self.loss(output, jnp.where(unknown, 0, label).astype(label.dtype))
        return jnp.where(unknown.reshape(*losses.shape, -1).any(-1), 0.0, losses)

    def mean_loss(self, output: jax.Array, label: jax.Array, weight: jax.Array) -> jax.Array:
        """Returns the weighted sum of `losses` over the batch's size, of outputs (B, outputs); a
        row weighs the same in a short last batch.

        Args:
          label: (B, ...), NaN where there is none. weight: (B,), 0 of padding.
        """
        return (self.losses(output, label) * weight).sum() / weight.size

    def mean_error(self, prediction: np.ndarray, label: np.ndarray) -> float:
        """Returns the mean of `error` over the rows of (N, ...) that have a label."""
        known = known_labels(label)
        return float(self.error(prediction[known], label[known]).mean())

    def read(self, output: Array) -> Array:
        """Returns the prediction of outputs (..., outputs); numpy or jax. Not clipped."""
        raise NotImplementedError

    def error(self, prediction: np.ndarray, label: np.ndarray) -> np.ndarray:
        """Returns (N,), lower is better: by this a model is chosen on validation."""
        raise NotImplementedError

    def metrics(self, prediction: np.ndarray, label: np.ndarray) -> dict[str, float]:
        """Returns the value of each metric; fractions, not percent."""
        raise NotImplementedError

    def headline_of(self, prediction: np.ndarray, label: np.ndarray) -> float:
        """Returns the metric `headline` alone, which is asked for often."""
        return self.metrics(prediction, label)[self.headline]

    def regrets(self, values: Mapping[str, float], best: Mapping[str, float]) -> dict[str, float]:
        """Returns the distances of `metrics` to the optimum's, fractions in points; lower is
        better."""
        regrets = {}
        for name, of in self.regret_of.items():
            worse, better = (values, best) if METRICS[of].higher else (best, values)
            regrets[name] = METRICS[of].scale * (better[of] - worse[of])
        return regrets

    def calibrate(
        self,
        predictions: np.ndarray,
        label: np.ndarray,
        code: np.ndarray,
        codes: int,
        share: np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:
        """Returns the float32 tables that `bounds` needs.

        Args:
          predictions: (Q, K, ...). label: (Q, ...). code, codes, share: of `conformal.rows_of`.
        """
        raise NotImplementedError

    def bounds(self, table: Mapping, predictions: Array, code: Array, level: float) -> dict:
        """Returns sets or intervals that cover the label; numpy or jax, in a jitted function too.

        Args:
          table: of `calibrate`. predictions: (N, K, ...). code: (N,) of `conformal.cells`.
          level: of `conformal.LEVELS`.
        """
        raise NotImplementedError

    def spread(self, predictions: Array) -> Array:
        """Returns the standard deviation over draws of predictions (N, K, ...), NaN where K = 1:
        (N,), for several numbers (N, outputs)."""
        return conformal.spread(predictions)

    def columns(self) -> tuple[str, ...]:
        """Returns the names of a table's columns."""
        raise NotImplementedError

    def lines(self, answers: Mapping[str, np.ndarray]) -> Iterator[tuple[str, ...]]:
        """Yields the cells of `columns` of each utterance.

        Args:
          answers: 'mean' and 'spread', and of `bounds` what it returns, over N utterances.
        """
        raise NotImplementedError

    def check(
        self, label: np.ndarray, where: str, ids: Sequence[str] | np.ndarray | None = None
    ) -> None:
        """Refuses labels that do not belong to this task; NaN is no label.

        Args:
          label: (N, ...).
          where: the beginning of the message, such as the file that is read.
          ids: (N,) names of utterances; numbers of rows by default.

        Raises:
          UserError: one line with the first label that is wrong, and what is allowed.
        """
        label = np.asarray(label)
        if not label.ndim or label.shape[1:] != self.label_shape:
            shape = f"(N, {self.outputs})" if self.label_shape else "(N,)"
            raise UserError(f"{where}: labels of shape {label.shape}; allowed: {shape}")
        if label.dtype.kind not in "fiub":
            raise UserError(f"{where}: labels of dtype {label.dtype}; allowed: {self.allowed}")
        wrong = np.argwhere(~self._fits(label.astype(np.float32)) & ~np.isnan(label))
        if len(wrong):
            row, value = wrong[0][0], label[tuple(wrong[0])]
            name = f"row {row}" if ids is None else f"utterance {str(ids[row])!r}"
            of = f" of {self.names[wrong[0][1]]!r}" if self.label_shape else ""
            raise UserError(f"{where}: {name}: label {value}{of}; allowed: {self.allowed}")

    def _fits(self, label: np.ndarray) -> np.ndarray:
        """Returns (N, ...) bool: whether a label is allowed."""
        raise NotImplementedError

    def describe(self) -> dict:
        """Returns plain values for JSON, of which `from_dict` makes the task again."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
        return {"kind": self.kind} | plain


class ProbabilityTask(Task):
    """A task whose predictions are probabilities, of classes or of labels.

    Attributes:
      least: the smallest number of names.
      sets: names of the columns that hold names of classes or labels.
    """

    least: ClassVar[int]
    sets: ClassVar[tuple[str, ...]]

    def __post_init__(self) -> None:
        """Raises `UserError` for too few names, or two that are equal."""
        object.__setattr__(self, "names", checked_names(self.kind, self.names, self.least))

    def spread(self, predictions: Array) -> Array:
        """Returns the root mean square over names of the standard deviation over draws, (N,)."""
        return ((conformal.spread(predictions) ** 2).mean(-1)) ** 0.5

    def columns(self) -> tuple[str, ...]:
        """Returns `sets`, spread, and p_NAME of each name."""
        return (*self.sets, "spread", *(f"p_{name}" for name in self.names))

    def lines(self, answers: Mapping[str, np.ndarray]) -> Iterator[tuple[str, ...]]:
        """Yields the names in each of `sets`, joined by +, the spread and the probabilities."""
        members = np.stack(self._members(answers), axis=1)
        for chosen, spread, mean in zip(members, answers["spread"], answers["mean"], strict=True):
            joined = ("+".join(self.names[i] for i in np.flatnonzero(row)) for row in chosen)
            yield (*joined, *(plain_number(v) for v in (spread, *mean)))

    def _members(self, answers: Mapping[str, np.ndarray]) -> Sequence[np.ndarray]:
        """Returns (N, names) bool for each of `sets`, of the arguments of `lines`."""
        raise NotImplementedError


def listed(names: Sequence[str], most: int = 10) -> str:
    """Returns names with commas, the first ones of many."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def checked_names(kind: str, names: Iterable[str], least: int) -> tuple[str, ...]:
    """Returns names as a tuple; raises `UserError` for less than `least`, or two that are equal."""
    words = () if isinstance(names, str) else tuple(names)
    fits = all(isinstance(name, str) and name.strip() for name in words)
    if isinstance(names, str) or not fits or len(set(words)) < len(words) or len(words) < least:
        raise UserError(f"names of a {kind} {names!r}; allowed: at least {least} different words")
    return words


def plain_number(value: float) -> str:
    """Returns a number as text for tables of predictions."""
    return f"{value:.6g}"
