"""Modality dropout: one classifier that meets every availability pattern in training.

Source: Neverova, Wolf, Taylor & Nebout, "ModDrop: adaptive multi-modal gesture recognition" (TPAMI
2016), section 4.2. Each training utterance is shown under an availability pattern drawn anew, each
as likely as any other, never without all modalities; the loss is the task's alone.

Mended: the paper puts zeros where a modality is missing, which are also a legal value of features
(the mean, of standardised ones). Here a learned vector stands there; `token=False` is the paper's.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mmdjax.methods.method import Phase, register
from mmdjax.methods.vector.base import VectorMethod, Vectors, masked_loss
from mmdjax.methods.vector.networks import Encoders, Head
from mmdjax.runtime.compilation import shared
from mmdjax.runtime.settings import field
from mmdjax.training.settings import Training

if TYPE_CHECKING:
    from mmdjax.tasks import Task
    from mmdjax.training.step import Loss


@dataclasses.dataclass(frozen=True)
class Settings:
    """Options of modality dropout.

    Attributes:
      width: of each modality's embedding, and of the classifier's hidden layers.
      dropout: of their layers.
      token: a learned vector in place of what is missing; False for zeros.
      training: how it is trained.
    """

    width: int = field(128, low=1)
    dropout: float = field(0.5, low=0, below=1)
    token: bool = True
    training: Training = Training(epochs=100, batch=128, warmup=20)  # noqa: RUF009


class Fusion(nn.Module):
    """Outputs (B, outputs) and embeddings (B, M, D) of `Vectors`, tokens where one is missing."""

    outputs: int
    width: int
    dropout: float
    token: bool

    @nn.compact
    def __call__(
        self, x: Vectors, observed: jax.Array, deterministic: bool = True
    ) -> tuple[jax.Array, jax.Array]:
        if self.token:
            start = nn.initializers.normal(0.02)
            tokens = [self.param(f"token_{m}", start, v.shape[1:]) for m, v in enumerate(x)]
            pairs = enumerate(zip(x, tokens, strict=True))
            x = tuple(jnp.where(observed[:, m, None], v, token) for m, (v, token) in pairs)
            observed = jnp.ones_like(observed)
        h = Encoders(self.width, self.dropout, name="encoders")(x, observed, deterministic)
        head = Head(self.outputs, self.width, self.dropout, name="head")
        return head(h.reshape(h.shape[0], -1), deterministic), h


@shared
def loss_of(network: Fusion, task: Task, patterns: tuple[tuple[bool, ...], ...]) -> Loss:
    """Return the task's loss under a random availability pattern of each utterance.

    Args:
      patterns: availability patterns as nested tuples of bool.
    """

    def loss(params, data, observed, weight, rngs):
        outputs, _ = network.apply(params, data["x"], observed, False, rngs=rngs)
        return task.mean_loss(outputs, data["label"], weight)

    return masked_loss(patterns, loss)


@register("modality_dropout", label="modality dropout", options=Settings)
class ModalityDropout(VectorMethod):
    """One network for every availability pattern."""

    predicts = "modality_dropout"

    @classmethod
    def build(cls, config: Any, modalities: tuple[str, ...], task: Task) -> Fusion:
        """Return the network."""
        options = config.modality_dropout
        return Fusion(task.outputs, options.width, options.dropout, options.token)

    @functools.cached_property
    def phases(self) -> tuple[Phase, ...]:
        """One phase, validated under every availability pattern."""
        loss = loss_of(self.network, self.task, self.conditions)
        return self.one_phase(self.config.modality_dropout.training, loss)
