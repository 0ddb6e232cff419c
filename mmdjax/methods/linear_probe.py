"""Linear models on mean-pooled observed features, one for each availability pattern.

The yardstick that a network has to beat; its strength is chosen on validation. Ridge regression for
numbers, logistic regression for classes and labels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import numpy as np

from mmdjax.methods.method import Completion, Method, register
from mmdjax.types import Observed, Params, known_labels

if TYPE_CHECKING:
    from mmdjax.data.dataset import Dataset
    from mmdjax.tasks import Task

STRENGTHS = 10.0 ** np.arange(-1, 5.5, 0.5)  # of the ridge, 13 of them
MOST = 32768  # training utterances of a set that is not in memory, evenly spaced
FEWEST = 10  # rows that a model of a pattern is fitted to
INVERSE = 10.0 ** np.arange(-4, 2.0, 1.0)  # of the logistic penalty


@register("linear_probe", label="linear probe")
class LinearProbe(Method):
    """A linear model for each pattern, trained on that pattern's modalities alone."""

    yardstick = streams = True

    @property
    def _data(self) -> Dataset:
        return self.dataset.shared("linear probe", lambda: self.dataset.pooled_few(MOST))

    def complete(
        self,
        params: Params,
        split: str,
        observed: Observed,
        draws: int,
        key: jax.Array,
        title: str,
        rows: np.ndarray | None = None,
    ) -> Completion:
        """Complete nothing: the models read what is observed."""
        return Completion((), observed, 0, rows)

    def predict(self, params: Params, split: str, completion: Completion) -> np.ndarray:
        """Return predictions (Q, N, 1, ...) of the pattern that each utterance shows."""
        masks, result = completion.observed.modalities, None
        code = 1 << np.arange(len(self.modalities))
        for pattern in np.unique(masks.reshape(-1, masks.shape[-1]), axis=0):
            predict = self.dataset.shared(
                ("linear probe", int(pattern @ code)), lambda p=pattern: self._fitted(p)
            )
            conditions, rows = np.nonzero((masks == pattern).all(-1))
            of_split = rows if completion.rows is None else completion.rows[rows]
            prediction = predict(self._columns(split, pattern, of_split))
            if result is None:
                result = np.zeros((*masks.shape[:2], *prediction.shape[1:]))
            result[conditions, rows] = prediction
        return result[:, :, None]

    def _columns(self, split: str, pattern: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Observed vectors of some rows, (R, sum of C_m)."""
        features = self._data.standardised[split].features
        names = [m for m, kept in zip(self.modalities, pattern, strict=True) if kept]
        return np.concatenate([features[m][rows][:, 0] for m in names], axis=1)

    def _rows(self, split: str, pattern: np.ndarray) -> np.ndarray:
        """Labelled rows that have all that the pattern shows; where hardly any do, those that have
        some of it, with the mean in place of the rest."""
        batch = self._data.splits[split]
        labelled, shown = known_labels(batch.label), batch.present[:, pattern]
        rows = np.flatnonzero(labelled & shown.all(1))
        if len(rows) < FEWEST:
            rows = np.flatnonzero(labelled & shown.any(1))
        return rows if len(rows) else np.flatnonzero(labelled)

    def _fitted(self, pattern: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """The model of one pattern, (R, sum of C_m) -> predictions (R, ...)."""
        # Here and below: a model in use imports every method, but fits no probe.
        from sklearn.preprocessing import StandardScaler

        rows = {split: self._rows(split, pattern) for split in ("train", "valid")}
        x = {split: self._columns(split, pattern, rows[split]) for split in rows}
        scaler = StandardScaler().fit(x["train"])
        x = {split: scaler.transform(values) for split, values in x.items()}
        label = {split: self._data.splits[split].label[rows[split]] for split in rows}
        if self.task.kind == "regression":
            predict = _ridge(self.task, x, label)
        elif not self.task.label_shape:
            predict = _logistic(x, label, self.task.outputs)
        else:
            each = [
                _logistic(x, {split: y[:, i] for split, y in label.items()}, 2)
                for i in range(self.task.outputs)
            ]
            predict = lambda rows: np.stack([one(rows)[:, 1] for one in each], axis=1)  # noqa: E731
        return lambda rows: predict(scaler.transform(rows))


def _ridge(task: Task, x: dict, label: dict) -> Callable:
    from sklearn.linear_model import Ridge

    outputs = label["train"].reshape(len(label["train"]), -1)
    # One Gram matrix for all strengths: a column of targets each.
    targets = np.repeat(outputs[:, :, None], len(STRENGTHS), axis=2).reshape(len(outputs), -1)
    penalties = np.tile(STRENGTHS, outputs.shape[1])
    model = Ridge(alpha=penalties, solver="cholesky").fit(x["train"], targets)

    def all_strengths(rows):
        shape = (len(rows), *label["train"].shape[1:], len(STRENGTHS))
        return model.predict(rows).reshape(shape)

    valid = all_strengths(x["valid"])
    errors = [task.error(valid[..., i], label["valid"]).mean() for i in range(len(STRENGTHS))]
    best = int(np.argmin(errors))
    return lambda rows: all_strengths(rows)[..., best]


def _logistic(x: dict, label: dict, classes: int) -> Callable:
    """Probabilities (R, classes); a class without training rows has none."""
    from sklearn.linear_model import LogisticRegression

    train, valid = (label[split].astype(int) for split in ("train", "valid"))
    present = np.unique(train)

    def probabilities(model, rows):
        result = np.zeros((len(rows), classes))
        result[:, present] = model.predict_proba(rows) if len(present) > 1 else 1.0
        return result

    best, lowest = None, np.inf
    for strength in INVERSE if len(present) > 1 else INVERSE[:1]:
        model = LogisticRegression(C=strength, max_iter=500)
        if len(present) > 1:
            model.fit(x["train"], train)
        chosen = probabilities(model, x["valid"])[np.arange(len(valid)), valid]
        error = -np.log(np.maximum(chosen, 1e-12)).mean()
        if error < lowest:
            best, lowest = model, error
    return lambda rows: probabilities(best, rows)
