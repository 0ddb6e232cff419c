"""The kinds of task by name, made from plain values, or from settings and training labels."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from mmdjax.errors import UserError, choice
from mmdjax.tasks.classification import Classification
from mmdjax.tasks.multi_label import MultiLabel
from mmdjax.tasks.regression import Regression
from mmdjax.tasks.task import Task

KINDS: dict[str, type[Task]] = {k.kind: k for k in (Regression, Classification, MultiLabel)}
SENTIMENT = Regression(-3, 3)
MOST_CLASSES = 1000  # that labels may ask for without naming them


def from_dict(values: Mapping) -> Task:
    """Returns the task of which `Task.describe` made these values.

    Raises:
      UserError: an unknown kind, a value that it has not, or one that is not allowed.
    """
    fields = dict(values)
    kind = fields.pop("kind", None)
    choice("task", kind, KINDS)
    try:
        return KINDS[kind](**fields)
    except TypeError:
        names = (field.name for field in dataclasses.fields(KINDS[kind]))
        allowed = ", ".join((*names, "kind"))
        raise UserError(f"{kind} with {', '.join(fields)}; allowed: {allowed}") from None


def make(
    kind: str = "",
    low: float | None = None,
    high: float | None = None,
    names: Sequence[str] = (),
    metric_set: str = "auto",
    label: np.ndarray | None = None,
) -> Task:
    """Returns the task of these settings and training labels.

    Args:
      kind: of `KINDS`; '' for what the labels look like. Fractions, and all labels with a range,
        are regression, and so are whole numbers that do not begin with 0, such as ratings; others
        of an integer dtype, or (N,) labels with names, are classes; of an integer dtype and (N,
        outputs), multi label.
      low, high: the range of regression. By default [-3, 3] if the labels lie within it, some
        beyond 1, and some are negative or fractional, as sentiment is; otherwise the labels',
        rounded outwards.
      names: of outputs, classes or labels; by default their numbers.
      metric_set: of regression.
      label: (N,) or (N, outputs); what is not finite is passed over, for `Task.check` to refuse.

    Raises:
      UserError: an unknown kind, settings of another kind, or labels that tell no task.
    """
    label = None if label is None else np.asarray(label)
    if label is not None and label.dtype.kind not in "fiub":
        raise UserError(f"labels of dtype {label.dtype}; allowed: numbers")
    if kind == "":
        kind = _looks_like(label, low is not None or high is not None, bool(names))
    choice("task", kind, KINDS)
    if kind == "regression":
        return _regression(low, high, tuple(names), metric_set, label)
    if low is not None or high is not None or metric_set != "auto":
        raise UserError(f"a range or metric set of {kind}; allowed: of regression")
    if names:
        return KINDS[kind](tuple(names))
    if kind == "multi_label":
        return MultiLabel(_numbered(_labels(label, 2).shape[1]))
    most = float(_labels(label, 1, finite=True).max())
    if not 1 <= most < MOST_CLASSES or most != int(most):
        raise UserError(
            f"classes of which the highest is {most:g}; allowed: a whole number from 1 to "
            f"{MOST_CLASSES - 1}, or names"
        )
    return Classification(_numbered(int(most) + 1))


def _looks_like(label: np.ndarray | None, ranged: bool, named: bool) -> str:
    if label is None:
        raise UserError("no task and no labels; allowed: " + ", ".join(KINDS))
    if ranged:
        return "regression"
    if label.dtype.kind in "iub" and label.size and label.min() == 0:
        return "classification" if label.ndim == 1 else "multi_label"
    return "classification" if named and label.ndim == 1 else "regression"


def _regression(
    low: float | None,
    high: float | None,
    names: tuple[str, ...],
    metric_set: str,
    label: np.ndarray | None,
) -> Regression:
    if label is not None and label.ndim == 2 and label.shape[1] > 1 and not names:
        names = _numbered(label.shape[1])
    if low is None or high is None:
        axes = 2 if label is not None and label.ndim > 1 else 1
        lowest, highest = _range(_labels(label, axes, finite=True))
        low, high = lowest if low is None else low, highest if high is None else high
    return Regression(low, high, names, metric_set)


def _range(label: np.ndarray) -> tuple[float, float]:
    """Returns the labels' ends, rounded outwards to the power of ten just below their distance."""
    # As they were written: 0.3, not the number of float32 beside it.
    low, high = float(str(label.min())), float(str(label.max()))
    whole = (label == label.round()).all()
    if low >= -3 and high <= 3 and max(-low, high) > 1 and (low < 0 or not whole):
        return SENTIMENT.low, SENTIMENT.high
    if not low < high:
        raise UserError(f"labels that are all {low:g}; allowed: two different ones, or a range")
    step = math.floor(math.log10(high - low))
    if step < 0:  # powers of ten below 1 are not exact, their inverses are
        down, up = math.floor(round(low * 10**-step, 9)), math.ceil(round(high * 10**-step, 9))
        return down / 10**-step, up / 10**-step
    return math.floor(low / 10**step) * 10.0**step, math.ceil(high / 10**step) * 10.0**step


def _labels(label: np.ndarray | None, axes: int, finite: bool = False) -> np.ndarray:
    """Returns the labels, which need so many axes; with `finite` only the finite ones."""
    if label is None or not label.size:
        raise UserError("no labels that tell the task; allowed: at least one, or names and range")
    if label.ndim != axes:
        shape = "(N,)" if axes == 1 else "(N, outputs)"
        raise UserError(f"labels of shape {label.shape}; allowed: {shape}")
    if not finite:
        return label
    if not np.isfinite(label).any():
        raise UserError("labels of which none is finite; allowed: at least one")
    return label[np.isfinite(label)]


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))
