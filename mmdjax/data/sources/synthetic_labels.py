"""The synthetic utterances have other labels as well, each with its exact optimum.

Features and sentiment y are drawn first, by `synthetic.py`. What else may be asked of an utterance
is drawn given them, from the exact law: its emotion g from the posterior of the mixture's
components, and z = (valence, arousal, dominance) from its Gaussian given g. So features, y, g and z
have the joint law that the model describes, and asking another question changes no feature.

    sentiment  y clipped to [-3, 3]                            median
    rating     the sentiment on a scale from 0 to 10           median
    emotion    g                                               posterior probabilities
    affect     z clipped to [-3, 3]                            median of each output
    signs      z > 0, a label for each output                  posterior probabilities

Medians minimise the absolute error, probabilities the cross entropy; the class with the highest one
has the best accuracy, and so has a label's more probable value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mmdjax.data.sources import mixture
from mmdjax.tasks import SENTIMENT, Classification, MultiLabel, Regression

if TYPE_CHECKING:
    from mmdjax.data.sources.synthetic import Law

EMOTIONS = ("joy", "contentment", "anger", "sadness", "surprise", "calm")
AFFECT = ("valence", "arousal", "dominance")
TASKS = {
    "sentiment": SENTIMENT,
    "rating": Regression(0, 10),
    "emotion": Classification(EMOTIONS),
    "affect": Regression(-3, 3, AFFECT),
    "signs": MultiLabel(AFFECT),
}
OF_SENTIMENT = ("sentiment", "rating")
STREAM = 7  # of a seed's randomness: apart from the features'


def draw(
    law: Law,
    labels: str,
    joint: np.ndarray,
    rng: np.random.Generator,
    noise_rng: np.random.Generator,
) -> np.ndarray:
    """Return labels of drawn utterances: float32 (N,) or (N, 3); int32 of 'emotion' and 'signs'.

    Args:
      law: of the utterances.
      labels: of `TASKS`.
      joint: (N, P) float64, features and the sentiment before it is clipped, which stands last.
      rng, noise_rng: of the emotions, and of z given them.
    """
    if labels in OF_SENTIMENT:
        return _scaled(labels, np.clip(joint[:, -1], -3, 3)).astype(np.float32)
    posterior = law.with_latents.condition(law.latents, np.arange(joint.shape[1]), joint)
    emotion = _chosen(posterior.log_weight, rng)
    if labels == "emotion":
        return emotion.astype(np.int32)
    noise = noise_rng.standard_normal((len(joint), len(AFFECT), 1))
    z = posterior.mean[np.arange(len(joint)), emotion]
    z = z + (np.linalg.cholesky(posterior.cov)[emotion] @ noise)[..., 0]
    return (z > 0).astype(np.int32) if labels == "signs" else np.clip(z, -3, 3).astype(np.float32)


def _chosen(log_weight: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw (N,), one component of each row's law (N, G)."""
    share = np.cumsum(np.exp(log_weight), axis=1)
    return (rng.random((len(share), 1)) * share[:, -1:] > share).sum(1)


def optimum(law: Law, labels: str, given: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the best prediction of labels, as `read` of their task has it.

    (N,) of 'sentiment' and 'rating', (N, 3) of 'affect' and of 'signs' (probabilities), (N, 6)
    probabilities of 'emotion'. Whole modalities and single frames alike may be missing.

    Args:
      law: of the utterances.
      labels: of `TASKS`.
      given: (Q,) indices of observed entries of the joint vector (`Law.indices`); may be empty.
      values: (N, Q), before standardisation.
    """
    if labels in OF_SENTIMENT:
        median = mixture.median(law.label_law(given, values))
        return _scaled(labels, np.clip(median, -3, 3))
    posterior = law.with_latents.condition(law.latents, given, values)
    if labels == "emotion":
        return np.exp(posterior.log_weight)
    dimensions = [posterior.dimension(i) for i in range(len(AFFECT))]
    if labels == "signs":
        # A sum of weights may pass 1 by a rounding.
        return np.stack([mixture.probability_positive(z) for z in dimensions], 1).clip(0, 1)
    return np.clip(np.stack([mixture.median(z) for z in dimensions], axis=1), -3, 3)


def _scaled(labels: str, sentiment: np.ndarray) -> np.ndarray:
    return sentiment if labels == "sentiment" else (sentiment + 3) * 10 / 6
