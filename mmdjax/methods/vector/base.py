"""What methods of utterance vectors have in common.

Most published baselines read one vector a modality, the mean of an utterance's frames, and one
network makes a prediction of whatever vectors are there. Such a method brings a network and its
phases; completion, evaluation and serving are here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmdjax.data.dataset import Dataset
from mmdjax.methods.batches import in_batches
from mmdjax.methods.latent.initial import initial
from mmdjax.methods.latent.losses import weighted_mean
from mmdjax.methods.method import Completion, Method, Phase, options_group
from mmdjax.runtime.compilation import shared
from mmdjax.training.settings import Training
from mmdjax.training.step import Source
from mmdjax.types import Observed, Params, hidden

if TYPE_CHECKING:
    from mmdjax.tasks import Task

__all__ = [
    "FeatureMethod",
    "VectorMethod",
    "Vectors",
    "masked_loss",
    "padded",
    "random_patterns",
    "unmet",
    "weighted_mean",
]

Vectors = tuple[jax.Array, ...]  # M arrays (B, C_m), zero where a modality is missing


def random_patterns(key: jax.Array, patterns: np.ndarray, present: jax.Array) -> jax.Array:
    """Return (B, M) bool: availability patterns, each as likely as any other, of what is present
    (B, M); see `mmdjax.types.hidden`."""
    index = jax.random.randint(key, (len(present),), 0, len(patterns))
    return hidden(jnp.asarray(patterns)[index], present)


def masked_loss(patterns: tuple[tuple[bool, ...], ...], of: Callable) -> Callable:
    """Return the loss of a phase under a random availability pattern of each utterance.

    Args:
      patterns: see `VectorMethod.conditions`.
      of: (params, data, observed (B, M), weight, rngs) -> scalar; rngs: of dropout.
    """

    def loss(params, data, weight, key, frames):
        key_pattern, key_dropout = jax.random.split(key)
        observed = random_patterns(key_pattern, np.array(patterns), data["present"])
        return of(params, data, observed, weight, {"dropout": key_dropout})

    return loss


def unmet(x: Vectors, rebuilt: jax.Array, hidden: jax.Array) -> jax.Array:
    """Return the mean square error of each hidden modality, summed over them, (B,).

    Args:
      rebuilt: (B, M, C), of each modality the first C_m are read. hidden: (B, M) bool.
    """
    errors = [((rebuilt[:, m, : v.shape[1]] - v) ** 2).mean(1) for m, v in enumerate(x)]
    return jnp.where(hidden, jnp.stack(errors, 1), 0.0).sum(1)


def padded(parts: Sequence[jax.Array]) -> jax.Array:
    """Return M arrays (B, C_m) as one (B, M, C), zeros behind the narrower ones."""
    widest = max(v.shape[1] for v in parts)
    return jnp.stack([jnp.pad(v, ((0, 0), (0, widest - v.shape[1]))) for v in parts], 1)


@shared
def _compiled(network: nn.Module) -> Callable[..., Any]:
    return jax.jit(network.apply)


class VectorMethod(Method):
    """One network that maps vectors and what is observed of them to outputs.

    Class attributes:
      predicts: the phase whose parameters the network has.
      reads: fields of the config that phases depend on, beside the method's own options.
    """

    predicts = ""
    reads: ClassVar[tuple[str, ...]] = ()
    serving = "mmdjax.methods.vector.served"

    @classmethod
    def build(cls, config: Any, modalities: tuple[str, ...], task: Task) -> nn.Module:
        """Return the network: (x, observed (B, M), deterministic=True) -> outputs (B, outputs),
        embedding (B, M, D) of the completed utterance. x: `Vectors`."""
        raise NotImplementedError

    @classmethod
    def frames_of(cls, config: Any) -> int:
        """Return how many frames utterances are brought to; of one frame the vector is left."""
        return 1

    @functools.cached_property
    def view(self) -> Dataset:
        """The data as the method reads them, not standardised."""
        return self.dataset.resampled(self.frames_of(self.config))

    def of_network(self, params: Params) -> Params:
        """Return the variables of `network`, from phase -> parameters."""
        return params[self.predicts]

    @functools.cached_property
    def network(self) -> nn.Module:
        """The network that `predicts` has the parameters of."""
        return self.build(self.config, self.modalities, self.task)

    @functools.cached_property
    def conditions(self) -> tuple[tuple[bool, ...], ...]:
        """The availability patterns as nested tuples, which a shared loss can be told apart by."""
        return tuple(map(tuple, self.dataset.patterns.tolist()))

    @functools.cached_property
    def vectors(self) -> dict[str, tuple[np.ndarray, ...]]:
        """Split -> standardised vectors of each modality, (N, C_m), or frames (N, F, C_m)."""
        part = slice(None) if self.frames_of(self.config) > 1 else 0
        return {
            name: tuple(batch.features[m][:, part] for m in self.modalities)
            for name, batch in self.view.standardised.items()
        }

    def initial(self, network: nn.Module, key: jax.Array) -> Params:
        """Return a network's initial parameters."""
        x = tuple(v[:1] for v in self.vectors["train"])
        return initial(network)(key, x, np.ones((1, len(x)), bool))

    def phase(
        self,
        name: str,
        title: str,
        settings: Training,
        loss: Callable,
        init: Callable,
        validate: Callable,
        common: Callable = lambda params: {},
    ) -> Phase:
        """Return a phase over the training split's vectors.

        Args:
          loss: (params, data, weight, key, frames) -> scalar. data: 'x' (`Vectors`), 'present'
            (B, M), 'label' (B, ...), and what `common` returns.
          init: (key, parameters of earlier phases) -> params.
          validate: (params, what `common` returned) -> float.
          common: parameters of earlier phases -> what all rows share.
        """
        train = self.dataset.splits["train"]
        rows = {"x": self.vectors["train"], "present": train.present, "label": train.label}

        def load(params, seed: int, place: Callable):
            beside = common(params)
            return Source(rows, beside), lambda current: validate(current, beside)

        return Phase(
            name=name,
            title=title,
            reads=options_group(type(self)) + self.reads,
            settings=settings,
            loss=loss,
            init=init,
            load=load,
            bucket=np.zeros(len(rows["label"]), int),
            buckets=(1,),
        )

    def one_phase(self, settings: Training, loss: Callable) -> tuple[Phase]:
        """Return a phase of the method's name, validated under every availability pattern."""
        every = self.every_pattern("valid")
        return (
            self.phase(
                self.predicts,
                self.label,
                settings,
                loss,
                lambda key, params: self.initial(self.network, key),
                lambda params, _: self.error(self.network, params, every),
            ),
        )

    def outputs(
        self, network: nn.Module, params: Params, split: str, observed: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return outputs (Q, N, outputs) and embeddings (Q, N, M, D) under observed (Q, N, M)."""
        x, conditions = self.vectors[split], len(observed)
        flat = [np.tile(v, (conditions,) + (1,) * (v.ndim - 1)) for v in x]
        flat.append(observed.reshape(-1, len(x)))
        call = _compiled(network)
        outputs, embedding = in_batches(
            lambda *columns: call(params, columns[:-1], columns[-1]),
            flat,
            self.config.evaluation.batch,
        )
        lead = observed.shape[:2]
        return (
            outputs.reshape(*lead, *outputs.shape[1:]),
            embedding.reshape(*lead, *embedding.shape[1:]),
        )

    def error(self, network: nn.Module, params: Params, observed: np.ndarray) -> float:
        """Return the mean error on validation data under observed (Q, N, M)."""
        outputs, _ = self.outputs(network, params, "valid", observed)
        label = self.dataset.splits["valid"].label
        return float(np.mean([self.task.mean_error(self.task.read(o), label) for o in outputs]))

    def every_pattern(self, split: str) -> np.ndarray:
        """Return every availability pattern for every utterance, (P, N, M) bool."""
        present = self.dataset.splits[split].present
        return Observed.of_patterns(self.dataset.patterns, present).modalities

    @property
    def completes(self) -> tuple[str, ...]:
        """Completion and prediction are one pass of the network."""
        return (self.name, *(phase.name for phase in self.phases))

    def complete(
        self, params: Params, split: str, observed: Observed, draws: int, key: jax.Array, title: str
    ) -> Completion:
        """Run the network; `x` has outputs and embeddings with K = 1."""
        variables = self.of_network(params)
        outputs, embedding = self.outputs(self.network, variables, split, observed.modalities)
        parts = {"outputs": outputs[:, :, None], "embedding": embedding[:, :, None]}
        return Completion(parts, observed)

    def predict(self, params: Params, split: str, completion: Completion) -> np.ndarray:
        """Return predictions (Q, N, 1, ...)."""
        return self.predict_with(None, params, split, completion)

    def predict_with(
        self, predictor: Params, params: Params, split: str, completion: Completion
    ) -> np.ndarray:
        """Return the predictions that the completion holds."""
        return self.task.read(completion.x["outputs"])

    def compared(self, params: Params, completion: Completion, modality: int) -> np.ndarray:
        """Return embeddings of one modality, (Q, N, 1, 1, D)."""
        return completion.x["embedding"][:, :, :, modality, None]


class FeatureMethod(VectorMethod):
    """A method of vectors that rebuilds the standardised vectors themselves.

    Its network's embedding (B, M, C) holds them, of each modality the first C_m: see `padded`.
    """

    def truth(self, params: Params, split: str) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """Return the standardised vectors of each modality."""
        pairs = zip(self.vectors[split], self.dataset.splits[split].present.T, strict=True)
        return tuple((x[:, None], there[:, None]) for x, there in pairs)

    def compared(self, params: Params, completion: Completion, modality: int) -> np.ndarray:
        """Return rebuilt vectors of one modality, (Q, N, 1, 1, C_m)."""
        columns = self.vectors["train"][modality].shape[1]
        return super().compared(params, completion, modality)[..., :columns]
