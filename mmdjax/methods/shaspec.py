"""ShaSpec: features that modalities share stand in for those of a missing one.

Source: Wang, Chen, Ma, Avery, Hull & Carneiro, "Multi-modal Learning with Missing Modality via
Shared-Specific Feature Modelling" (CVPR 2023). Each modality is projected to one width; a shared
encoder gives s_m and an encoder of its own r_m. An observed modality is fused by a residual (eq.
2), and in place of a missing one stands the mean of what the observed ones share (eq. 3):

    f_m = s_m + W [s_m, r_m],    f_missing = mean over observed of s_m.

Shared features are drawn together (distribution alignment by the L1 distance between modalities,
eq. 4) and specific ones have to tell which modality they are of (cross-entropy, eq. 5):

    L = L_task + 0.1 L_shared + 0.02 L_specific.

Mended: the public code, of segmentation alone, computes both losses on the zeros of missing
modalities, too; here observed ones are in them.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from mmdjax.methods.method import Phase, register
from mmdjax.methods.vector.base import VectorMethod, Vectors, masked_loss, weighted_mean
from mmdjax.methods.vector.networks import Head
from mmdjax.runtime.compilation import shared
from mmdjax.runtime.settings import field
from mmdjax.training.settings import Training

if TYPE_CHECKING:
    from mmdjax.tasks import Task
    from mmdjax.training.step import Loss


@dataclasses.dataclass(frozen=True)
class Settings:
    """Options of ShaSpec.

    Attributes:
      width: D of projections and features.
      dropout: of encoders and classifier.
      common: weight of the distance between shared features.
      specific: weight of the classifier of modalities.
      training: how it is trained.
    """

    width: int = field(128, low=1)
    dropout: float = field(0.5, low=0, below=1)
    common: float = field(0.1, low=0)
    specific: float = field(0.02, low=0)
    training: Training = Training(epochs=100, batch=128, warmup=20)  # noqa: RUF009


class Encoder(nn.Module):
    """Two layers of one width."""

    width: int
    dropout: float

    @nn.compact
    def __call__(self, h: jax.Array, deterministic: bool) -> jax.Array:
        h = nn.relu(nn.Dense(self.width, name="layer_0")(h))
        h = nn.Dropout(self.dropout)(h, deterministic=deterministic)
        return nn.Dense(self.width, name="layer_1")(h)


class Network(nn.Module):
    """Outputs (B, outputs) and fused features (B, M, D) of `Vectors`."""

    outputs: int
    modalities: int
    width: int
    dropout: float

    def setup(self) -> None:
        count = range(self.modalities)
        self.project = [nn.Dense(self.width) for _ in count]
        self.common = Encoder(self.width, self.dropout)
        self.specific = [Encoder(self.width, self.dropout) for _ in count]
        self.residual = nn.Dense(self.width)
        self.which = nn.Dense(self.modalities)
        self.head = Head(self.outputs, self.width, self.dropout)

    def __call__(
        self, x: Vectors, observed: jax.Array, deterministic: bool = True
    ) -> tuple[jax.Array, jax.Array]:
        """Return outputs and fused features."""
        return self.everything(x, observed, deterministic)[:2]

    def everything(
        self, x: Vectors, observed: jax.Array, deterministic: bool = True
    ) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        """Return outputs, fused and shared features, and logits (B, M, M) of the modality."""
        seen = observed[..., None]
        parts = [
            nn.relu(project(jnp.where(seen[:, m], v, 0.0)))
            for m, (project, v) in enumerate(zip(self.project, x, strict=True))
        ]
        common = jnp.stack([self.common(h, deterministic) for h in parts], 1)
        pairs = zip(self.specific, parts, strict=True)
        specific = jnp.stack([encoder(h, deterministic) for encoder, h in pairs], 1)
        fused = common + self.residual(jnp.concatenate([common, specific], -1))
        count = jnp.maximum(seen.sum(1), 1)
        mean = jnp.where(seen, common, 0.0).sum(1) / count
        fused = jnp.where(seen, fused, mean[:, None])
        outputs = self.head(fused.reshape(fused.shape[0], -1), deterministic)
        return outputs, fused, common, self.which(specific)


def apart(common: jax.Array, observed: jax.Array) -> jax.Array:
    """Return the mean absolute difference (B,) between shared features (B, M, D) of the observed
    modalities, over pairs of them; 0 where there is one alone."""
    pairs = observed[:, :, None] & observed[:, None] & ~np.eye(observed.shape[1], dtype=bool)
    distance = jnp.abs(common[:, :, None] - common[:, None]).mean(-1)
    return jnp.where(pairs, distance, 0.0).sum((1, 2)) / jnp.maximum(pairs.sum((1, 2)), 1)


def misnamed(logits: jax.Array, observed: jax.Array) -> jax.Array:
    """Return the cross-entropy (B,) of the observed modalities' names, from logits (B, M, M)."""
    names = jnp.broadcast_to(jnp.arange(logits.shape[1]), logits.shape[:2])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, names)
    return jnp.where(observed, losses, 0.0).sum(1) / jnp.maximum(observed.sum(1), 1)


@shared
def loss_of(
    network: Network,
    task: Task,
    common: float,
    specific: float,
    patterns: tuple[tuple[bool, ...], ...],
) -> Loss:
    """Return the loss under a random availability pattern of each utterance.

    Args:
      patterns: availability patterns as nested tuples of bool.
    """

    def loss(params, data, observed, weight, rngs):
        outputs, _, shared_features, logits = network.apply(
            params, data["x"], observed, False, method="everything", rngs=rngs
        )
        beside = common * apart(shared_features, observed) + specific * misnamed(logits, observed)
        return task.mean_loss(outputs, data["label"], weight) + weighted_mean(beside, weight)

    return masked_loss(patterns, loss)


@register("shaspec", label="ShaSpec", published="ShaSpec", options=Settings)
class SharedSpecific(VectorMethod):
    """One network for every availability pattern."""

    predicts = "shaspec"

    @classmethod
    def build(cls, config: Any, modalities: tuple[str, ...], task: Task) -> Network:
        """Return the network."""
        options = config.shaspec
        return Network(task.outputs, len(modalities), options.width, options.dropout)

    @functools.cached_property
    def phases(self) -> tuple[Phase, ...]:
        """One phase, validated under every availability pattern."""
        options = self.config.shaspec
        loss = loss_of(self.network, self.task, options.common, options.specific, self.conditions)
        return self.one_phase(options.training, loss)
