"""Conversations from a Gaussian law that is smooth over the graph, so that every answer is known.

R factors F (N, R) of a conversation are independent, each N(0, K) over utterances: K comes from the
graph of time and speakers (`graphs/conversation.py`), K = (I + SMOOTHNESS (I - S))^-1 scaled to
unit variances, so that neighbours and turns of one speaker are alike. Modality m is F W_m plus a
part of its own with variance OWN, of which the share SMOOTH follows K as well. The sentiment is a
projection of the factors plus noise, clipped to [-3, 3].

All of it is jointly Gaussian: what is missing given what is observed, and the sentiment, have known
means and variances. Without the graph (each utterance by itself) the same formulas give the optimum
of any method that looks at one utterance at a time; the gap between the two is what the graph is
worth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from mmdjax.data.dataset import Optimum
from mmdjax.data.settings import Data
from mmdjax.graphs.conversation import normalised, structure
from mmdjax.types import Batch, Observed, Talk

CHANNELS = {"language": 8, "acoustic": 6, "vision": 6}
FACTORS = 8
SMOOTHNESS = 60.0
OWN, SMOOTH = 0.2, 0.8
LABEL_STD, LABEL_NOISE = 1.0, 0.4
UTTERANCES = (4, 16)  # of a conversation, inclusive
SPEAKERS = 2


class Posterior(NamedTuple):
    """What is known given what is observed in one conversation.

    Attributes:
      mean: modality -> (N, C_m), where observed the values themselves.
      variance: modality -> (N, C_m), 0 where observed.
      label: (N,) mean of the sentiment before it is clipped; label_variance: (N,).
    """

    mean: dict[str, np.ndarray]
    variance: dict[str, np.ndarray]
    label: np.ndarray
    label_variance: np.ndarray


def kernel(position: np.ndarray, speaker: np.ndarray) -> np.ndarray:
    """Return K (N, N), float64, with ones on the diagonal."""
    exists = np.ones(len(position), bool)
    graph = normalised(structure(np.asarray(position, float), speaker, exists))
    smooth = np.linalg.inv(np.eye(len(graph)) + SMOOTHNESS * (np.eye(len(graph)) - graph))
    scale = 1 / np.sqrt(np.diag(smooth))
    return scale[:, None] * smooth * scale[None, :]


class Law:
    """The law of one `seed`: how modalities and sentiment depend on the factors.

    Attributes:
      weights: (R, C) of all modalities' channels, in order; columns of length sqrt(1 - OWN).
      label_weights: (R,) of length LABEL_STD.
    """

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng([seed, 6])
        weights = rng.standard_normal((FACTORS, sum(CHANNELS.values())))
        self.weights = np.sqrt(1 - OWN) * weights / np.linalg.norm(weights, axis=0)
        label = rng.standard_normal(FACTORS)
        self.label_weights = LABEL_STD * label / np.linalg.norm(label)

    def conversation(
        self, position: np.ndarray, speaker: np.ndarray, rng: np.random.Generator
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Draw features of each modality (N, C_m), and sentiment (N,)."""
        root = np.linalg.cholesky(kernel(position, speaker))
        count, channels = len(position), self.weights.shape[1]
        factors = root @ rng.standard_normal((count, FACTORS))
        smooth = root @ rng.standard_normal((count, channels))
        rough = rng.standard_normal((count, channels))
        rest = np.sqrt(SMOOTH) * smooth + np.sqrt(1 - SMOOTH) * rough
        x = factors @ self.weights + np.sqrt(OWN) * rest
        noise = LABEL_NOISE * rng.standard_normal(count)
        label = np.clip(factors @ self.label_weights + noise, -3, 3)
        return split(x), label

    def posterior(
        self,
        position: np.ndarray,
        speaker: np.ndarray,
        features: Mapping[str, np.ndarray],
        observed: np.ndarray,
        graph: bool = True,
    ) -> Posterior:
        """Return means and variances given the observed utterances' modalities of one conversation.

        Args:
          features: (N, C_m) each; hidden entries are never read.
          observed: (N, M) bool.
          graph: False for what one can know from each utterance by itself.
        """
        count, channels = len(position), self.weights.shape[1]
        k = kernel(position, speaker) if graph else np.eye(count)
        shared = self.weights.T @ self.weights + OWN * SMOOTH * np.eye(channels)
        covariance = np.kron(k, shared) + OWN * (1 - SMOOTH) * np.eye(count * channels)
        with_label = np.kron(k, (self.label_weights @ self.weights)[None, :])
        known = np.repeat(observed, list(CHANNELS.values()), axis=1).reshape(-1)
        x = np.concatenate([features[name] for name in CHANNELS], axis=1).reshape(-1)
        targets = np.concatenate([covariance[known], with_label[:, known].T], 1)
        gain = np.linalg.solve(covariance[known][:, known], targets)
        mean, explained = x[known] @ gain, np.sum(targets * gain, axis=0)
        variance = np.diag(covariance) - explained[: len(x)]
        return Posterior(
            split(np.where(known, x, mean[: len(x)]).reshape(count, -1)),
            split(np.where(known, 0.0, variance).reshape(count, -1)),
            mean[len(x) :],
            LABEL_STD**2 + LABEL_NOISE**2 - explained[len(x) :],
        )


def split(x: np.ndarray) -> dict[str, np.ndarray]:
    """Return (N, C) as modality -> (N, C_m)."""
    ends = np.cumsum(list(CHANNELS.values()))[:-1]
    return dict(zip(CHANNELS, np.split(x, ends, axis=-1), strict=True))


def read(train: int, valid: int, test: int, seed: int) -> dict[str, Batch]:
    """Draw splits of so many conversations, one frame a modality."""
    law = Law(seed)
    sizes = {"train": train, "valid": valid, "test": test}
    return {
        name: _split(law, name, size, np.random.default_rng([seed, 60 + i]))
        for i, (name, size) in enumerate(sizes.items())
    }


def _split(law: Law, name: str, size: int, rng: np.random.Generator) -> Batch:
    columns: list[tuple] = []
    for number in range(size):
        count = int(rng.integers(UTTERANCES[0], UTTERANCES[1] + 1))
        position = np.arange(count, dtype=np.float32)
        speaker = rng.integers(0, SPEAKERS, count).astype(np.int32)
        features, label = law.conversation(position, speaker, rng)
        conversation = f"{name}{number:04d}"
        ids = [f"{conversation}_{i:02d}" for i in range(count)]
        columns.append((features, label, ids, [conversation] * count, position, speaker))
    features, *rest = zip(*columns, strict=True)
    stacked = {m: np.concatenate([f[m] for f in features])[:, None] for m in CHANNELS}
    label, ids, *talk = (np.concatenate(column) for column in rest)
    return Batch(
        {m: x.astype(np.float32) for m, x in stacked.items()},
        {m: np.ones(x.shape[:2], bool) for m, x in stacked.items()},
        label.astype(np.float32),
        ids,
        Talk(*talk),
    )


def optimum(data: Data) -> Callable[[Batch, Observed, bool], Optimum]:
    """Return the optimum given whole conversations, or with `alone` given each utterance alone."""
    law = Law(data.seed)

    def answer(batch: Batch, observed: Observed, alone: bool = False) -> Optimum:
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
            labels.append(np.concatenate([p.label for p in posteriors]).clip(-3, 3))
            for m, conditions in means.items():
                conditions.append(np.concatenate([p.mean[m] for p in posteriors])[:, None])
        return Optimum(np.stack(labels), {m: np.stack(x) for m, x in means.items()})

    return answer
