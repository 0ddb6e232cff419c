"""Linear models on mean-pooled observed features, one for each availability pattern.

The yardstick that a network has to beat; its strength is chosen on validation. Ridge regression for
numbers, logistic regression for classes and labels.
"""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from mmdjax.methods.method import Completion, Method, register
from mmdjax.types import Batch

STRENGTHS = 10.0 ** np.arange(-1, 5.5, 0.5)  # of the ridge, 13 of them
INVERSE = 10.0 ** np.arange(-4, 2.0, 1.0)  # of the logistic penalty


@register("linear_probe", label="linear probe")
class LinearProbe(Method):
    """A linear model for each pattern, trained on that pattern's modalities alone."""

    yardstick = True

    def complete(self, params, split, observed, draws, key, title) -> Completion:
        """Complete nothing: the models read what is observed."""
        return Completion((), observed)

    def predict(self, params, split, completion: Completion) -> np.ndarray:
        """Return predictions (Q, N, 1, ...) of the pattern that each utterance shows."""
        masks, dataset = completion.observed.modalities, self.dataset
        code = 1 << np.arange(len(self.modalities))
        result = None
        for pattern in np.unique(masks.reshape(-1, masks.shape[-1]), axis=0):
            key = ("linear probe", split, int(pattern @ code))
            everywhere = dataset.shared(key, lambda p=pattern: self._predictions(split, p))
            if result is None:
                result = np.zeros((*masks.shape[:2], *everywhere.shape[1:]))
            conditions, rows = np.nonzero((masks == pattern).all(-1))
            result[conditions, rows] = everywhere[rows]
        return result[:, :, None]

    def _predictions(self, split: str, pattern: np.ndarray) -> np.ndarray:
        """Predictions (N, ...) of a split, from the modalities of one pattern."""
        splits = self.dataset.pooled.standardised
        names = [m for m, kept in zip(self.modalities, pattern, strict=True) if kept]
        x = {name: _columns(splits[name], names) for name in ("train", "valid", split)}
        scaler = StandardScaler().fit(x["train"])
        x = {name: scaler.transform(values) for name, values in x.items()}
        label = {name: splits[name].label for name in ("train", "valid")}
        if self.task.kind == "regression":
            return _ridge(self.task, x, label, split)
        if self.task.label_shape:
            each = [
                _logistic(self.task, x, {k: v[:, i] for k, v in label.items()}, split, 2)[:, 1]
                for i in range(self.task.outputs)
            ]
            return np.stack(each, axis=1)
        return _logistic(self.task, x, label, split, self.task.outputs)


def _columns(batch: Batch, names: list[str]) -> np.ndarray:
    return np.concatenate([batch.features[m][:, 0] for m in names], axis=1)


def _ridge(task, x: dict, label: dict, split: str) -> np.ndarray:
    outputs = label["train"].reshape(len(label["train"]), -1)
    # One Gram matrix for all strengths: a column of targets each.
    targets = np.repeat(outputs[:, :, None], len(STRENGTHS), axis=2).reshape(len(outputs), -1)
    penalties = np.tile(STRENGTHS, outputs.shape[1])
    model = Ridge(alpha=penalties, solver="cholesky").fit(x["train"], targets)

    def predicted(name):
        shape = (len(x[name]), *label["train"].shape[1:], len(STRENGTHS))
        return model.predict(x[name]).reshape(shape)

    valid = predicted("valid")
    errors = [task.error(valid[..., i], label["valid"]).mean() for i in range(len(STRENGTHS))]
    return predicted(split)[..., int(np.argmin(errors))]


def _logistic(task, x: dict, label: dict, split: str, classes: int) -> np.ndarray:
    """Probabilities (N, classes); a class without training rows has none."""
    train = label["train"].astype(int)
    present = np.unique(train)

    def spread(model, rows):
        result = np.zeros((len(rows), classes))
        result[:, present] = model.predict_proba(rows) if len(present) > 1 else 1.0
        return result

    best, lowest = None, np.inf
    for strength in INVERSE:
        model = LogisticRegression(C=strength, max_iter=500)
        if len(present) > 1:
            model.fit(x["train"], train)
        probability = spread(model, x["valid"])
        chosen = probability[np.arange(len(probability)), label["valid"].astype(int)]
        error = -np.log(np.maximum(chosen, 1e-12)).mean()
        if error < lowest:
            best, lowest = model, error
    return spread(best, x[split])
