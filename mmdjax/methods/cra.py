"""CRA: rebuild the vectors of missing modalities by a cascade of residual autoencoders.

Source: Tran, Liu, Zhou & Jin, "Missing Modalities Imputation via Cascaded Residual Autoencoder"
(CVPR 2017), with the classifier that later comparisons gave it (Lian et al., GCNet, TPAMI 2023).
Each modality is embedded, zeros in place of what is missing; two autoencoders correct the
concatenated embeddings h one after the other, h <- h + AE(h) (section 3.2); decoders rebuild the
vectors and a classifier predicts the label from what the cascade returned:

    L = L_task + 0.8 sum over missing m of ||x_m' - x_m||^2 / C_m.

Mended: the comparisons' code adds the reconstruction up over the batch while the task's loss is a
mean, so that its weight depends on the size of the batch; `faithful=True` does so, too. Its
learning rate is constant for 20 of 100 epochs and falls linearly after; here it falls by a cosine.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax

from mmdjax.methods.method import Phase, register
from mmdjax.methods.vector.base import (
    FeatureMethod,
    Vectors,
    masked_loss,
    padded,
    unmet,
    weighted_mean,
)
from mmdjax.methods.vector.networks import Cascade, Encoders, Head
from mmdjax.runtime.compilation import shared
from mmdjax.runtime.settings import field
from mmdjax.training.settings import Training

if TYPE_CHECKING:
    from mmdjax.tasks import Task
    from mmdjax.training.step import Loss


@dataclasses.dataclass(frozen=True)
class Settings:
    """Options of CRA.

    Attributes:
      width: D of each modality's embedding; autoencoders have layers of 2 D and D channels.
      blocks: autoencoders of the cascade.
      dropout: of encoders and classifier.
      reconstruction: weight of rebuilt vectors.
      faithful: their errors are added up over the batch, as in the published code.
      training: how it is trained.
    """

    width: int = field(128, low=1)
    blocks: int = field(2, low=1)
    dropout: float = field(0.5, low=0, below=1)
    reconstruction: float = field(0.8, low=0)
    faithful: bool = False
    training: Training = Training(  # noqa: RUF009
        epochs=100, batch=256, warmup=20, patience=20, clip=5.0
    )


class Network(nn.Module):
    """Outputs (B, outputs) and rebuilt vectors (B, M, C) of `Vectors`."""

    outputs: int
    width: int
    blocks: int
    dropout: float

    @nn.compact
    def __call__(
        self, x: Vectors, observed: jax.Array, deterministic: bool = True
    ) -> tuple[jax.Array, jax.Array]:
        seen = Encoders(self.width, self.dropout, name="encoders")(x, observed, deterministic)
        sizes = (2 * self.width, self.width)
        h, _ = Cascade(self.blocks, sizes, name="cascade")(seen.reshape(seen.shape[0], -1))
        outputs = Head(self.outputs, self.width, self.dropout, name="head")(h, deterministic)
        z = nn.Dense(h.shape[1], name="mix_out")(nn.relu(nn.Dense(h.shape[1], name="mix_in")(h)))
        rebuilt = []
        for m, part in enumerate(z.reshape(seen.shape).swapaxes(0, 1)):
            for layer in range(2):
                part = nn.relu(nn.Dense(self.width, name=f"decoder_{m}_{layer}")(part))
            rebuilt.append(nn.Dense(x[m].shape[1], name=f"decoder_{m}_out")(part))
        return outputs, padded(rebuilt)


@shared
def loss_of(
    network: Network,
    task: Task,
    reconstruction: float,
    faithful: bool,
    patterns: tuple[tuple[bool, ...], ...],
) -> Loss:
    """Return the loss of prediction and of rebuilt vectors under random availability patterns.

    Args:
      patterns: availability patterns as nested tuples of bool.
    """

    def loss(params, data, observed, weight, rngs):
        x, present = data["x"], data["present"]
        outputs, rebuilt = network.apply(params, x, observed, False, rngs=rngs)
        error = weighted_mean(unmet(x, rebuilt, present & ~observed), weight)
        error = error * weight.size if faithful else error
        return task.mean_loss(outputs, data["label"], weight) + reconstruction * error

    return masked_loss(patterns, loss)


@register("cra", label="CRA", published="CRA", options=Settings)
class CascadedAutoencoders(FeatureMethod):
    """The classifier of what the cascade returns, beside decoders of the vectors."""

    predicts = "cra"

    @classmethod
    def build(cls, config: Any, modalities: tuple[str, ...], task: Task) -> Network:
        """Return the network."""
        options = config.cra
        return Network(task.outputs, options.width, options.blocks, options.dropout)

    @functools.cached_property
    def phases(self) -> tuple[Phase, ...]:
        """One phase, validated under every availability pattern."""
        options = self.config.cra
        weight, faithful = options.reconstruction, options.faithful
        loss = loss_of(self.network, self.task, weight, faithful, self.conditions)
        return self.one_phase(options.training, loss)
