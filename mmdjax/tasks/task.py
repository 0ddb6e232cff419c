"""What every task has in common, and what is known of every metric by its name.

A task says what a label is: the size of the head that predicts it, the loss, how outputs are read,
by which metrics predictions are judged, how sure they are, and how they stand in a table. Tasks are
frozen and hashable; two that are equal share compiled programs.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from mmdjax.errors import UserError

SMALLEST_PROBABILITY = 1e-12


@dataclasses.dataclass(frozen=True)
class Metric:
    """How a metric is called, printed and compared.

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
        """What a value is multiplied by where it is printed."""
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


def _fraction(name: str, label: str) -> Metric:
    return Metric(name, label, "%", higher=True, digits=1)


def _points(name: str, label: str) -> Metric:
    return Metric(name, label, "points", digits=1)


METRICS = {
    entry.name: entry
    for entry in (
        _fraction("acc2_nonzero", "ACC2 non-zero"),
        _fraction("f1_nonzero", "F1 non-zero"),
        _fraction("acc2_with_zero", "ACC2 with zero"),
        _fraction("f1_with_zero", "F1 with zero"),
        _fraction("acc7", "ACC7"),
        _fraction("acc5", "ACC5"),
        _fraction("acc", "accuracy"),
        _fraction("f1", "F1"),
        _fraction("f1_macro", "F1 macro"),
        _fraction("uar", "UAR"),
        _fraction("ap", "AP"),
        Metric("mae", "MAE"),
        Metric("corr", "correlation", higher=True),
        Metric("ccc", "CCC", higher=True),
        Metric("rmse_label", "RMSE of the label"),
        _points("regret_acc2", "regret ACC2"),
        _points("regret_acc", "regret accuracy"),
        _points("regret_f1", "regret F1"),
        Metric("regret_mae", "regret MAE"),
        # Of what is drawn, and of what it costs.
        Metric("energy_distance", "energy distance"),
        Metric("rmse", "RMSE, one draw"),
        Metric("rmse_mean", "RMSE, mean of K draws"),
        Metric("missing_rate", "missing rate"),
        Metric("seconds", "seconds", digits=-3),
        Metric("nfe", "NFE", digits=-3),
        Metric("parameters", "parameters", digits=-3),
    )
}


def metric(name: str) -> Metric:
    """Returns what is known of a metric; 'mae_valence' is 'mae' of one output, and a name that
    nobody foresaw is a number of which less is better."""
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
    """

    kind: ClassVar[str]
    names: tuple[str, ...]

    @property
    def outputs(self) -> int:
        """Size of the head."""
        return max(1, len(self.names))

    @property
    def label_shape(self) -> tuple[int, ...]:
        """() or (outputs,): of one utterance's label."""
        raise NotImplementedError

    @property
    def headline(self) -> str:
        """Name of the metric that figures and words are about."""
        raise NotImplementedError

    @property
    def main(self) -> tuple[str, ...]:
        """Names of the metrics of the main table, regret last."""
        raise NotImplementedError

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Names of all that `metrics` and `regrets` return, in order."""
        raise NotImplementedError

    @property
    def entries(self) -> tuple[Metric, ...]:
        """What is known of each of `metric_names`."""
        return tuple(metric(name) for name in self.metric_names)

    def loss(self, output, label):
        """Returns the training loss (...) of outputs (..., outputs); jax."""
        raise NotImplementedError

    def read(self, output):
        """Returns the prediction of outputs (..., outputs); numpy or jax. Not clipped."""
        raise NotImplementedError

    def error(self, prediction, label) -> np.ndarray:
        """Returns (N,), lower is better: by this a model is chosen on validation."""
        raise NotImplementedError

    def metrics(self, prediction, label) -> dict[str, float]:
        """Returns the value of each metric; fractions, not percent."""
        raise NotImplementedError

    def regrets(self, values: Mapping[str, float], best: Mapping[str, float]) -> dict[str, float]:
        """Returns the distances of `metrics` to the optimum's; lower is better."""
        raise NotImplementedError

    def calibrate(self, predictions, label, code, codes: int) -> dict[str, np.ndarray]:
        """Returns the float32 tables that `bounds` needs.

        Args:
          predictions: (Q, K, ...). label: (Q, ...). code: (Q,) pattern, the sum of 2^m over the
            observed m. codes: 2^M.
        """
        raise NotImplementedError

    def bounds(self, table: Mapping, predictions, known, level: float) -> dict:
        """Returns sets or intervals that cover the label; numpy or jax, in a jitted function too.

        Args:
          table: of `calibrate`. predictions: (N, K, ...). known: (N, M) bool, something of it is
            observed. level: of `conformal.LEVELS`.
        """
        raise NotImplementedError

    def spread(self, predictions):
        """Returns the standard deviation over draws of predictions (N, K, ...), NaN where K = 1:
        (N,), for several numbers (N, outputs)."""
        raise NotImplementedError

    def columns(self) -> tuple[str, ...]:
        """Returns the names of a table's columns."""
        raise NotImplementedError

    def lines(self, found: Mapping[str, np.ndarray]) -> Iterator[tuple[str, ...]]:
        """Yields the cells of `columns` of each utterance.

        Args:
          found: 'mean' and 'spread', and of `bounds` what it returns, over N utterances.
        """
        raise NotImplementedError

    def check(self, label, where: str, ids: Sequence[str] | None = None) -> None:
        """Refuses labels that are none of this task's.

        Args:
          label: (N, ...).
          where: what is read, as the message begins.
          ids: (N,) names of utterances; numbers of rows by default.

        Raises:
          UserError: one line with the first label that is wrong, and what is allowed.
        """
        label = np.asarray(label)
        if not label.ndim or label.shape[1:] != self.label_shape:
            wanted = f"(N, {self.outputs})" if self.label_shape else "(N,)"
            raise UserError(f"{where}: labels of shape {label.shape}; allowed: {wanted}")
        if label.dtype.kind not in "fiub":
            raise UserError(f"{where}: labels of dtype {label.dtype}; allowed: {self._allowed}")
        wrong = np.argwhere(~self._fits(label.astype(np.float32)))
        if len(wrong):
            row, value = wrong[0][0], label[tuple(wrong[0])]
            name = f"row {row}" if ids is None else f"utterance {str(ids[row])!r}"
            of = f" of {self.names[wrong[0][1]]!r}" if self.label_shape else ""
            raise UserError(f"{where}: {name}: label {value}{of}; allowed: {self._allowed}")

    @property
    def _allowed(self) -> str:
        """What a label may be, as messages say it."""
        raise NotImplementedError

    def _fits(self, label: np.ndarray) -> np.ndarray:
        """(N, ...) bool, a label is allowed."""
        raise NotImplementedError

    def describe(self) -> dict:
        """Returns plain values, as JSON has them; `from_dict` makes the task of them."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
        return {"kind": self.kind} | plain


def checked_names(kind: str, names, least: int) -> tuple[str, ...]:
    """Returns names as a tuple; raises `UserError` for less than `least`, or two that are equal."""
    made = () if isinstance(names, str) else tuple(names)
    fits = all(isinstance(name, str) and name.strip() for name in made)
    if isinstance(names, str) or not fits or len(set(made)) < len(made) or len(made) < least:
        raise UserError(f"names of a {kind} {names!r}; allowed: at least {least} different words")
    return made


def plain_number(value) -> str:
    """Returns a number as tables of predictions have it."""
    return f"{value:.6g}"


def root_mean_square(x):
    """Returns (...) of (..., outputs), numpy or jax."""
    return ((x**2).mean(-1)) ** 0.5


def numbers_of(array):
    """Returns the module, numpy or jax.numpy, that an array belongs to."""
    return jnp if isinstance(array, jax.Array) else np
