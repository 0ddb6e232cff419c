"""The exact optimum on synthetic data, whose law is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from mmdjax.data.pipeline import SOURCES
from mmdjax.errors import UserError
from mmdjax.methods.method import Completion, Method, register
from mmdjax.types import Observed, Params

if TYPE_CHECKING:
    from mmdjax.data.dataset import Dataset
    from mmdjax.runtime.progress import Reporter


@register("bayes", label="Bayes optimum")
class Bayes(Method):
    """The best prediction given what is observed: no method can be better on average."""

    yardstick = gaps = streams = True
    alone = False

    def __init__(self, config: Any, dataset: Dataset, reporter: Reporter) -> None:
        """See `Method`; where there are conversations, what neighbours show counts."""
        super().__init__(config, dataset, reporter)
        if dataset.splits["train"].talk is not None:
            self.sees = "conversations"

    @classmethod
    def check(cls, config: Any) -> None:
        """Raise `UserError` where the law of the data is not known."""
        known = [name for name, source in SOURCES.items() if source.optimum]
        if config.data.name not in known or config.task.kind:
            raise UserError(
                f"method {cls.name!r} with data {config.data.name!r}; allowed: "
                f"{', '.join(known)}, whose law is known"
            )

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
        """Compute the optimum; `x` has its parts with K = 1."""
        batch = self.dataset.splits[split]
        batch = batch if rows is None else batch.at(rows)
        optimum = self.dataset.optimum(batch, observed, self.alone)
        parts = {"prediction": optimum.prediction[:, :, None]}
        for m, x in (optimum.features or {}).items():
            mean, scale = self.dataset.scaling[m]
            parts[m] = (((x - mean) * scale)[:, :, None]).astype(np.float32)
        return Completion(parts, observed, 0, rows)

    def predict(self, params: Params, split: str, completion: Completion) -> np.ndarray:
        """Return the optimum's predictions, (Q, N, 1, ...)."""
        return completion.x["prediction"]

    def truth(
        self, params: Params, split: str, rows: np.ndarray | None = None
    ) -> tuple[tuple[np.ndarray, np.ndarray], ...] | None:
        """Return the standardised features where the optimum completes them."""
        if self.sees != "conversations":
            return None
        batch = self.dataset.standardised[split]
        return tuple((batch.features[m], batch.valid[m]) for m in self.modalities)

    def compared(self, params: Params, completion: Completion, modality: int) -> np.ndarray:
        """Return the conditional mean of one modality, (Q, N, 1, 1, C_m)."""
        return completion.x[self.modalities[modality]]


@register("bayes_alone", label="Bayes optimum, alone")
class BayesAlone(Bayes):
    """The best prediction from each utterance by itself, without its neighbours.

    No method that treats utterances independently can beat it.
    """

    alone = True

    @classmethod
    def check(cls, config: Any) -> None:
        """Raise `UserError` where utterances have no neighbours."""
        super().check(config)
        if config.data.name != "synthetic_conversations":
            raise UserError(
                f"method {cls.name!r} with data {config.data.name!r}; allowed: "
                "synthetic_conversations"
            )
