"""The exact answers on synthetic data, as `mmdjax.data.dataset.Dataset` keeps them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mmdjax.data.dataset import Optimum
from mmdjax.data.sources import synthetic, synthetic_conversations, synthetic_labels
from mmdjax.types import Batch, Observed

SMALLEST, LARGEST = -3.0, 3.0  # sentiment of the conversations is clipped to this range


def of_mixture(data) -> Callable[[Batch, Observed, bool], Optimum]:
    """Return the optimum given any observed frames, under the Gaussian mixture of `synthetic.py`.

    Args:
      data: `mmdjax.data.settings.Data` of a synthetic set.
    """
    law = synthetic.Law(data.seed, synthetic.LAWS[data.name])

    def optimum(batch: Batch, observed: Observed, alone: bool = False) -> Optimum:
        names = batch.modalities
        values, columns = law.flatten(batch.features, names), law.indices(names)
        frames = observed.of_frames(batch.valid)
        shown = np.concatenate(
            [np.repeat(frames[m], batch.features[m].shape[2], axis=2) for m in names], axis=2
        )
        predictions = []
        for under_condition in shown:
            result = None
            # One Gaussian regression serves all utterances that lack the same entries.
            patterns, which = np.unique(under_condition, axis=0, return_inverse=True)
            for index, pattern in enumerate(patterns):
                rows = np.flatnonzero(which.reshape(-1) == index)
                entries = values[rows][:, pattern]
                answer = synthetic_labels.optimum(law, data.labels, columns[pattern], entries)
                if result is None:
                    result = np.empty((len(values), *answer.shape[1:]), np.float32)
                result[rows] = answer
            predictions.append(result)
        return Optimum(np.stack(predictions), None)

    return optimum


def of_conversations(data) -> Callable[[Batch, Observed, bool], Optimum]:
    """Return the optimum given whole conversations, or with `alone` given each utterance alone."""
    law = synthetic_conversations.Law(data.seed)

    def optimum(batch: Batch, observed: Observed, alone: bool = False) -> Optimum:
        starts = np.flatnonzero(batch.talk.conversation[1:] != batch.talk.conversation[:-1]) + 1
        groups = np.split(np.arange(len(batch)), starts)
        features = {m: x[:, 0] for m, x in batch.features.items()}
        labels, means = [], {m: [] for m in features}
        for mask in observed.modalities:
            posteriors = [
                law.posterior(
                    batch.talk.position[rows],
                    batch.talk.speaker[rows],
                    {m: x[rows] for m, x in features.items()},
                    mask[rows],
                    graph=not alone,
                )
                for rows in groups
            ]
            labels.append(np.concatenate([p.label for p in posteriors]).clip(SMALLEST, LARGEST))
            for m, conditions in means.items():
                conditions.append(np.concatenate([p.mean[m] for p in posteriors])[:, None])
        return Optimum(np.stack(labels), {m: np.stack(x) for m, x in means.items()})

    return optimum
