"""DCCA: views whose outputs correlate, and a linear classifier of them.

Source: Andrew, Arora, Bilmes & Livescu, "Deep Canonical Correlation Analysis" (ICML 2013). There
is a network for each modality. Without labels, they are trained so that the sum of the canonical
correlations of their outputs is largest over pairs of modalities (section 3):

    L = - sum over pairs of sum_i sigma_i(S_aa^-1/2 S_ab S_bb^-1/2),    S_mm with r I added.

A linear model then predicts the label from all outputs, side by side. What is missing is replaced
by its mean over the training split, zero of standardised vectors.

Mended, of the code that later comparisons share: every modality goes through a network of its own
(the third went through the second's); means and normalisation are of the training split alone; the
number of outputs is not chosen on the test; pairs are learned from where both are present. The
linear model is trained under all availability patterns.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmdjax.data.stored import evenly
from mmdjax.methods.method import Phase, register
from mmdjax.methods.vector.base import VectorMethod, Vectors, padded, random_patterns, unmet
from mmdjax.methods.vector.cca import correlation, held_out
from mmdjax.runtime.compilation import shared
from mmdjax.runtime.settings import field
from mmdjax.training.settings import Training
from mmdjax.types import Params

if TYPE_CHECKING:
    from mmdjax.tasks import Task
    from mmdjax.training.step import Loss

SEEN = 8192  # training utterances, at most, that normalisation is of


@dataclasses.dataclass(frozen=True)
class Settings:
    """Options of DCCA.

    Attributes:
      width: of the three hidden layers of each view. outputs: k, of each view.
      ridge: r, what is added to the variances of outputs.
      training: of the views. classifier: of the linear model.
    """

    width: int = field(256, low=1)
    outputs: int = field(32, low=1)
    ridge: float = field(1e-3, above=0)
    training: Training = Training(  # noqa: RUF009
        epochs=100, batch=1024, warmup=20, weight_decay=1e-4
    )
    classifier: Training = Training(epochs=100, batch=128, warmup=20)  # noqa: RUF009


class Layers(nn.Module):
    """Three hidden layers with batch normalisation (none if `plain`), and a linear one.

    Correlations do not depend on the scale of outputs, which are normalised, too, for the linear
    model.
    """

    width: int
    outputs: int
    plain: bool = False

    @nn.compact
    def __call__(self, h: jax.Array, mask: jax.Array | None, train: bool = False) -> jax.Array:
        def normalised(h, name: str, **options):
            if self.plain:
                return h
            # With momentum 0, statistics are those of the rows that were last seen in training.
            return nn.BatchNorm(not train, momentum=0.0, name=name, **options)(h, mask=mask)

        for layer in range(3):
            h = nn.Dense(self.width, name=f"layer_{layer}")(h)
            h = nn.relu(normalised(h, f"norm_{layer}"))
        h = nn.Dense(self.outputs, name="out")(h)
        return normalised(h, "norm_out", use_scale=False, use_bias=False)


class Views(nn.Module):
    """Outputs (B, M, k) of a network for each of `Vectors`, of zeros where one is missing."""

    width: int
    outputs: int

    @nn.compact
    def __call__(self, x: Vectors, observed: jax.Array, train: bool = False) -> jax.Array:
        parts = []
        for m, vector in enumerate(x):
            here = observed[:, m, None]
            view = Layers(self.width, self.outputs, name=f"view_{m}")
            parts.append(view(jnp.where(here, vector, 0.0), here | ~here.any(), train))
        return jnp.stack(parts, 1)


class Learner(nn.Module):
    """The views, and decoders of what they put out where there are some (DCCAE)."""

    width: int
    outputs: int
    decodes: bool

    @nn.compact
    def __call__(
        self, x: Vectors, observed: jax.Array, train: bool = True
    ) -> tuple[jax.Array, jax.Array | None]:
        """Return outputs (B, M, k), and rebuilt vectors (B, M, C) or None."""
        h = Views(self.width, self.outputs, name="views")(x, observed, train)
        if not self.decodes:
            return h, None
        parts = [
            Layers(self.width, v.shape[1], True, name=f"decoder_{m}")(h[:, m], None)
            for m, v in enumerate(x)
        ]
        return h, padded(parts)


class Network(nn.Module):
    """Outputs (B, outputs) of a linear model, and those of the views (B, M, k)."""

    outputs: int
    width: int
    size: int

    def setup(self) -> None:
        self.views = Views(self.width, self.size)
        self.head = nn.Dense(self.outputs)

    def __call__(
        self, x: Vectors, observed: jax.Array, deterministic: bool = True
    ) -> tuple[jax.Array, jax.Array]:
        """Return both."""
        h = self.views(x, observed)
        return self.head(h.reshape(h.shape[0], -1)), h


def variables(views: dict, head: Params) -> dict:
    """Return the variables of `Network` from those of `Views` and the linear model's parameters."""
    statistics = {"views": views["batch_stats"]}
    return {"params": {"views": views["params"], "head": head}, "batch_stats": statistics}


@shared
def views_loss(learner: Learner, ridge: float, reconstruction: float) -> Loss:
    """Return minus the correlations of all pairs, with the error of rebuilt vectors (DCCAE)."""

    def loss(params, data, weight, key, frames):
        x, present = data["x"], data["present"]
        (h, rebuilt), _ = learner.apply({"params": params}, x, present, mutable=["batch_stats"])
        total = jnp.zeros(())
        for a, b in itertools.combinations(range(len(x)), 2):
            both = weight * (present[:, a] & present[:, b])
            total -= correlation(h[:, a], h[:, b], both, ridge)
        if rebuilt is not None:
            error = unmet(x, rebuilt, present)
            total += reconstruction * (error * weight).sum() / jnp.maximum(weight.sum(), 1)
        return total

    return loss


@shared
def head_loss(network: Network, task: Task, patterns: tuple[tuple[bool, ...], ...]) -> Loss:
    """Return the task's loss of the linear model; data has 'views', their variables.

    Args:
      patterns: availability patterns as nested tuples of bool.
    """

    def loss(params, data, weight, key, frames):
        observed = random_patterns(key, np.array(patterns), data["present"])
        outputs, _ = network.apply(variables(data["views"], params), data["x"], observed)
        return task.mean_loss(outputs, data["label"], weight)

    return loss


@register("dcca", label="DCCA", published="DCCA", options=Settings)
class DeepCorrelation(VectorMethod):
    """A linear model of what correlated views put out."""

    @property
    def predicts(self) -> str:
        """The phase of the linear model."""
        return f"{self.name}_head"

    @classmethod
    def build(cls, config: Any, modalities: tuple[str, ...], task: Task) -> Network:
        """Return views with the linear model."""
        options = getattr(config, cls.name)
        return Network(task.outputs, options.width, options.outputs)

    @functools.cached_property
    def phases(self) -> tuple[Phase, ...]:
        """The views without labels, then the linear model under all availability patterns."""
        options, every = getattr(self.config, self.name), self.every_pattern("valid")
        weight = getattr(options, "reconstruction", 0.0)
        learner = Learner(options.width, options.outputs, weight > 0)

        views = self.phase(
            self.name,
            f"{self.label}'s views",
            options.training,
            views_loss(learner, options.ridge, weight),
            lambda key, params: self.initial(learner, key)["params"],
            lambda params, _: -self.correlations(params["views"]),
        )
        head = self.phase(
            self.predicts,
            f"{self.label}'s linear model",
            options.classifier,
            head_loss(self.network, self.task, self.conditions),
            lambda key, params: self.initial(self.network, key)["params"]["head"],
            lambda params, beside: self.error(
                self.network, variables(beside["views"], params), every
            ),
            lambda params: {"views": self.normalised(params[self.name]["views"])},
        )
        return views, head

    def of_network(self, params: Params) -> dict:
        """Return the variables of the views and the linear model."""
        return variables(self.normalised(params[self.name]["views"]), params[self.predicts])

    def normalised(self, params: Params) -> dict:
        """Return variables of `Views`, their statistics of the training split."""
        train = self.dataset.splits["train"]
        rows = evenly(len(train), SEEN)
        x = tuple(jnp.asarray(v[rows]) for v in self.vectors["train"])
        return _statistics(self._views)(params, x, jnp.asarray(train.present[rows]))

    @functools.cached_property
    def _views(self) -> Views:
        return Views(self.network.width, self.network.size)

    def correlations(self, params: Params) -> float:
        """Return the validation split's correlations along directions of the training split, summed
        over pairs of modalities that some validation utterances hold together."""
        known, parts = self.normalised(params), {}
        for split in ("train", "valid"):
            x = tuple(jnp.asarray(v) for v in self.vectors[split])
            present = self.dataset.splits[split].present
            parts[split] = np.asarray(_outputs(self._views)(known, x, present)), present
        ridge, total = getattr(self.config, self.name).ridge, 0.0
        for a, b in itertools.combinations(range(len(self.modalities)), 2):
            pairs = [
                tuple(h[present[:, a] & present[:, b], m] for m in (a, b))
                for h, present in parts.values()
            ]
            if all(len(left) > 1 for left, _ in pairs):
                total += held_out(*pairs, ridge)
        return total


@shared
def _statistics(views: Views) -> Callable[..., dict[str, Any]]:
    """Return (params, x, observed) -> variables with the statistics of these rows."""

    @jax.jit
    def run(params, x, observed):
        _, state = views.apply({"params": params}, x, observed, True, mutable=["batch_stats"])
        return {"params": params} | state

    return run


@shared
def _outputs(views: Views) -> Callable[..., Any]:
    return jax.jit(views.apply)
