"""MCTN: a joint representation that translates one modality into the others.

Source: Pham, Liang, Manzini, Morency & Poczos, "Found in Translation: Learning Robust Joint
Representations by Cyclic Translations Between Modalities" (AAAI 2019). A bidirectional LSTM reads
the source modality and an LSTM with attention writes the first target; the pair leads back from
what it wrote (cycle). What the reader put out is the joint representation; another pair translates
it into the next target (hierarchical MCTN). The label is read from the last representation, so that
in use the source modality is enough:

    L = L_task + 0.1 ||targets||^2 + 0.1 ||cycle||^2,    squared errors of standardised features.

One such chain is learned for each modality as the source. An utterance is answered by the chain of
the observed modality with the smallest error on validation data: the published system, whose source
is chosen beforehand, has none for others.

Mended: in the public code the forget gate reuses the input gate, and outputs end in tanh, which no
standardised feature beyond 1 can be reached by (`faithful=True` keeps the tanh); a port of it
recurs over the batch and is fed the target it has to write. What was written is not fed back: of a
linear output the LSTM's own state holds it. Utterances are brought to a fixed number of frames,
means over equal parts.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmdjax.methods.batches import in_batches
from mmdjax.methods.method import Completion, Phase, register
from mmdjax.methods.vector.base import VectorMethod, Vectors, weighted_mean
from mmdjax.runtime.compilation import shared
from mmdjax.runtime.settings import field
from mmdjax.training.settings import Training
from mmdjax.types import Params

if TYPE_CHECKING:
    from mmdjax.tasks import Task
    from mmdjax.training.step import Loss


@dataclasses.dataclass(frozen=True)
class Settings:
    """Options of MCTN.

    Attributes:
      width: of LSTMs.
      frames: that utterances are brought to, `latents.frames` at most.
      translation, cycle: weights of both errors.
      faithful: what is written ends in tanh.
      training: how it is trained.
    """

    width: int = field(32, low=1)
    frames: int = field(8, low=1)
    translation: float = field(0.1, low=0)
    cycle: float = field(0.1, low=0)
    faithful: bool = False
    training: Training = Training(epochs=100, batch=32, warmup=20)  # noqa: RUF009


# An orthogonal start of recurrent matrices, the default, needs a QR decomposition for each source.
Cell = functools.partial(nn.OptimizedLSTMCell, recurrent_kernel_init=nn.initializers.lecun_normal())


class Writer(nn.Module):
    """One step of an LSTM whose input is what it attends to of a memory (B, F, D)."""

    width: int

    @nn.compact
    def __call__(
        self, carry: tuple[jax.Array, jax.Array], memory: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        """Return the carry and the state (B, D)."""
        weights = jnp.einsum("bfd,bd->bf", memory, nn.Dense(memory.shape[-1])(carry[1]))
        context = jnp.einsum("bf,bfd->bd", nn.softmax(weights), memory)
        return Cell(self.width)(carry, context)


class Translator(nn.Module):
    """A reader and a writer."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """x (B, F, D) -> what was read and what was written, (B, F, width) each."""
        forward, backward = (nn.RNN(Cell(self.width)) for _ in range(2))
        read = nn.Bidirectional(forward, backward, merge_fn=jnp.add)(x)
        write = nn.scan(
            Writer,
            variable_broadcast="params",
            split_rngs={"params": False},
            length=x.shape[1],
            in_axes=nn.broadcast,
            out_axes=1,
        )
        start = (jnp.zeros((x.shape[0], self.width)),) * 2
        return read, write(self.width, name="writer")(start, read)[1]


class Chain(nn.Module):
    """The system of one source; what it writes is bounded by tanh if `bounded`."""

    outputs: int
    width: int
    bounded: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """x (B, M, F, C), the source first -> outputs (B, outputs), and the source after a cycle
        with the translated targets, (B, M, F, C)."""
        modalities, channels = x.shape[1], x.shape[-1]
        layers = [nn.Dense(channels, name=f"write_{m}") for m in range(modalities)]
        bound = nn.tanh if self.bounded else lambda x: x
        write = [lambda h, layer=layer: bound(layer(h)) for layer in layers]
        pair = Translator(self.width, name="pair_1")
        joint, written = pair(nn.Dense(self.width, name="read_0")(x[:, 0]))
        made = [write[1](written)]
        _, back = pair(nn.Dense(self.width, name="read_1")(made[0]))
        for m in range(2, modalities):
            joint, written = Translator(self.width, name=f"pair_{m}")(joint)
            made.append(write[m](written))
        h = nn.RNN(Cell(self.width), name="reader")(joint)
        weights = nn.softmax(nn.Dense(1, name="attention")(h), axis=1)
        outputs = nn.Dense(self.outputs, name="out")((weights * h).sum(1))
        return outputs, jnp.stack([write[0](back), *made], 1)


class Network(nn.Module):
    """Outputs (B, outputs) and translated features (B, M, F, C), of the best observed source.

    Sources are ranked by 'errors' (M,) of the collection 'ranking'.
    """

    outputs: int
    modalities: int
    width: int
    bounded: bool = False

    def setup(self) -> None:
        chains = nn.vmap(Chain, variable_axes={"params": 0}, split_rngs={"params": True})
        self.chains = chains(self.outputs, self.width, self.bounded)

    def __call__(
        self, x: Vectors, observed: jax.Array, deterministic: bool = True
    ) -> tuple[jax.Array, jax.Array]:
        """Return both."""
        outputs, made = self.everything(x, observed)
        errors = self.get_variable("ranking", "errors", jnp.zeros(self.modalities))
        cost = jnp.where(observed, errors, jnp.inf)
        best, row = cost.argmin(1), jnp.arange(observed.shape[0])
        made = made[best, row]  # the source first, then those after it
        place = (jnp.arange(self.modalities) - best[:, None]) % self.modalities
        return outputs[best, row], made[row[:, None], place]

    def everything(self, x: Vectors, observed: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return outputs (S, B, outputs) and features (S, B, M, F, C), the source first, of S = M
        sources."""
        frames = joined(x)
        frames = jnp.where(observed[..., None, None], frames, 0.0)
        sources = range(self.modalities)
        return self.chains(jnp.stack([jnp.roll(frames, -s, 1) for s in sources]))


def joined(x: Vectors) -> jax.Array:
    """Return frames (B, M, F, C), zeros behind the narrower modalities; vectors are one frame."""
    widest = max(v.shape[-1] for v in x)
    frames = [v if v.ndim == 3 else v[:, None] for v in x]
    return jnp.stack([jnp.pad(v, ((0, 0), (0, 0), (0, widest - v.shape[2]))) for v in frames], 1)


@shared
def loss_of(network: Network, task: Task, translation: float, cycle: float) -> Loss:
    """Return the loss of all chains, each over the utterances that have its source."""

    def loss(params, data, weight, key, frames):
        x, present = data["x"], data["present"]
        outputs, made = network.apply(params, x, present, method="everything")
        truth, total = joined(x), jnp.zeros(())
        columns = jnp.array([v.shape[-1] for v in x])
        for source in range(len(x)):
            here = weight * present[:, source]
            total += task.mean_loss(outputs[source], data["label"], here)
            order = (source + np.arange(len(x))) % len(x)
            # Columns beyond a modality's own are zero in the truth, and do not count.
            own = jnp.arange(truth.shape[-1]) < columns[order, None]
            error = jnp.where(own[:, None], (made[source] - truth[:, order]) ** 2, 0.0)
            error = error.sum(-1).mean(-1) / columns[order]  # (B, M)
            error = jnp.where(present[:, order], error, 0.0)
            beside = cycle * error[:, 0] + translation * error[:, 1:].sum(1)
            total += weighted_mean(beside, here)
        return total

    return loss


@shared
def compiled(network: Network) -> Callable[..., jax.Array]:
    """Return (params, x, observed) -> the outputs of all chains, (B, S, outputs)."""

    def of_rows(params, x, observed):
        outputs, _ = network.apply(params, x, observed, method="everything")
        return outputs.swapaxes(0, 1)

    return jax.jit(of_rows)


@register("mctn", label="MCTN", published="MCTN", options=Settings)
class CyclicTranslations(VectorMethod):
    """The chain of the best observed source."""

    predicts = "mctn"
    reads = ("latents.frames",)

    @classmethod
    def build(cls, config: Any, modalities: tuple[str, ...], task: Task) -> Network:
        """Return the network."""
        options = config.mctn
        return Network(task.outputs, len(modalities), options.width, options.faithful)

    @classmethod
    def frames_of(cls, config: Any) -> int:
        """Return the option, or what the latents of all methods have, if that is less."""
        return min(config.mctn.frames, config.latents.frames)

    @functools.cached_property
    def phases(self) -> tuple[Phase, ...]:
        """One phase, validated under every availability pattern."""
        options, present = self.config.mctn, self.dataset.splits["valid"].present
        patterns = self.every_pattern("valid").reshape(-1, len(self.modalities))
        label = np.concatenate([self.dataset.splits["valid"].label] * len(self.dataset.patterns))
        row = np.tile(np.arange(len(present)), len(self.dataset.patterns))

        def validate(params, _) -> float:
            outputs = self.of_sources(params)
            best = np.where(patterns, self.errors(outputs), np.inf).argmin(1)
            return self.task.mean_error(self.task.read(outputs[best, row]), label)

        phase = self.phase(
            self.predicts,
            self.label,
            options.training,
            loss_of(self.network, self.task, options.translation, options.cycle),
            lambda key, params: self.initial(self.network, key),
            validate,
        )
        return (phase,)

    def of_sources(self, params: Params) -> np.ndarray:
        """Return the outputs (S, N, outputs) of every chain for the validation split."""
        x, present = self.vectors["valid"], self.dataset.splits["valid"].present
        call = compiled(self.network)
        outputs = in_batches(
            lambda *columns: call(params, columns[:-1], columns[-1]),
            [*x, present],
            self.config.evaluation.batch,
        )
        return np.moveaxis(outputs, 1, 0)

    def errors(self, outputs: np.ndarray) -> np.ndarray:
        """Return the validation error (S,) of each chain, of `of_sources`."""
        valid, errors = self.dataset.splits["valid"], []
        for source, output in enumerate(outputs):
            has = valid.present[:, source]
            prediction = self.task.read(output[has])
            known = has.any()
            errors.append(self.task.mean_error(prediction, valid.label[has]) if known else np.inf)
        return np.array(errors, np.float32)

    def ranked(self, params: Params) -> dict:
        """Return the network's variables, with the validation error of each source."""
        return {**params, "ranking": {"errors": jnp.asarray(self.errors(self.of_sources(params)))}}

    def of_network(self, params: Params) -> dict:
        """Return the variables of all chains, ranked."""
        return self.ranked(params[self.predicts])

    def truth(self, params: Params, split: str) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """Return the standardised frames of each modality."""
        frames = [x if x.ndim == 3 else x[:, None] for x in self.vectors[split]]
        there = self.dataset.splits[split].present.T
        pairs = zip(frames, there, strict=True)
        return tuple((x, np.repeat(here[:, None], x.shape[1], 1)) for x, here in pairs)

    def compared(self, params: Params, completion: Completion, modality: int) -> np.ndarray:
        """Return translated frames of one modality, (Q, N, 1, F, C_m)."""
        columns = self.vectors["train"][modality].shape[-1]
        return completion.x["embedding"][:, :, :, modality, :, :columns]
