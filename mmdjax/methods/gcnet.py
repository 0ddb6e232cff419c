"""GCNet: graphs of a conversation's utterances, from which features and labels are read.

Source: Lian, Chen, Sun, Liu & Tao, "GCNet: Graph Completion Network for Incomplete Multimodal
Learning in Conversation" (TPAMI 2023). Modalities of each utterance, zeros where one is missing, go
through a bidirectional LSTM over the conversation. Two graphs join utterances at most two apart:
the speaker graph, with a relation for each pair of speakers, and the temporal graph, with relations
past, present and future. On each, a relational graph convolution (Schlichtkrull et al. 2018) and a
graph convolution follow, then an LSTM over what was before and after them; both graphs' outputs are
added. Linear layers predict the label and rebuild all features:

    L = L_task + ||x' - x||^2 over missing parts.

Mended: the public code reshapes the mask of the reconstruction in the wrong order, draws new masks
for validation and test in every epoch, and validates on the test of IEMOCAP.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from mmdjax.methods.graph.gcnet_network import Network, numbered
from mmdjax.methods.graph.losses import training_mask
from mmdjax.methods.graph.modules import Prepared
from mmdjax.methods.graph.states import fitted
from mmdjax.methods.graph.system import System, system_of
from mmdjax.methods.graph.variants import PLAIN
from mmdjax.methods.latent.initial import initial
from mmdjax.methods.method import Completion, Method, Phase, options_group, register
from mmdjax.methods.vector.base import weighted_mean
from mmdjax.runtime.compilation import shared
from mmdjax.runtime.settings import field
from mmdjax.training.settings import Training
from mmdjax.training.step import Loss, Source
from mmdjax.types import Observed, Params, known_labels

if TYPE_CHECKING:
    from mmdjax.tasks import Task


@dataclasses.dataclass(frozen=True)
class Settings:
    """Options of GCNet.

    Attributes:
      width: of the first LSTM in each direction. convolution: of graph convolutions.
      hidden: of the second LSTM in each direction, and of what both graphs add to.
      window: how far apart utterances are joined.
      dropout: of LSTMs' outputs.
      reconstruction: weight of rebuilt features.
      training: how it is trained; batches are of conversations.
    """

    width: int = field(200, low=1)
    convolution: int = field(100, low=1)
    hidden: int = field(500, low=1)
    window: int = field(2, low=0)
    dropout: float = field(0.5, low=0, below=1)
    reconstruction: float = field(1.0, low=0)
    training: Training = Training(  # noqa: RUF009
        epochs=100, batch=32, warmup=20, weight_decay=1e-5
    )


def answered(
    network: Network,
    params: Params,
    batch: Prepared,
    observed: jax.Array,
    deterministic: bool = True,
    **rngs: Any,
) -> tuple[jax.Array, jax.Array]:
    """Return what the network makes of B conversations under observed (B, N, M)."""
    valid = batch.graphs.valid
    given = (batch.features, observed, numbered(batch.speaker, valid), valid)
    return network.apply(params, *given, deterministic, **rngs)


@shared
def loss_of(network: Network, task: Task, reconstruction: float) -> Loss:
    """Return the loss of prediction and of rebuilt features, over utterances.

    data: {'row' (B,) of 'all' (`Prepared`), 'labelled' (mean number of a conversation's utterances
    with a label)}.
    """

    def loss(params, data, weight, key, frames):
        key_mask, key_drop = jax.random.split(key)
        batch = data["all"].at(data["row"], frames)
        valid, observed = batch.graphs.valid, training_mask(key_mask, batch.present)
        rngs = {"dropout": key_drop}
        outputs, rebuilt = answered(network, params, batch, observed, False, rngs=rngs)
        error = jnp.where(valid, task.losses(outputs, batch.label), 0.0).sum(1) / data["labelled"]
        squares = [
            ((rebuilt[:, :, m, : v.shape[-1]] - v) ** 2).mean(-1)
            for m, v in enumerate(batch.features)
        ]
        hidden = batch.present & ~observed & valid[..., None]
        missed = jnp.where(hidden, jnp.stack(squares, -1), 0.0).sum((1, 2))
        missed /= jnp.maximum(hidden.sum((1, 2)), 1)
        return weighted_mean(error + reconstruction * missed, weight)

    return loss


@shared
def _compiled(network: Network) -> Callable[..., Any]:
    """Return (params, data, rows, observed, count) -> outputs and rebuilt features."""

    def of_rows(params, data, rows, observed, count):
        made = answered(network, params, data.at(rows, count), observed[:, :count])
        return jax.tree.map(lambda a: fitted(a, data.x.shape[1]), made)

    return jax.jit(of_rows, static_argnames="count")


@register("gcnet", label="GCNet", published="GCNet", options=Settings)
class GCNet(Method):
    """One pass of the network under whatever is missing."""

    sees = "conversations"
    serving = "mmdjax.methods.graph.gcnet_served"
    companions = ("gsdnet", "linear_probe", "bayes", "bayes_alone")

    @functools.cached_property
    def system(self) -> System:
        """The conversations, which GSDNet's methods share."""
        graph = dataclasses.replace(self.config.graph, variant=PLAIN)
        return system_of(dataclasses.replace(self.config, graph=graph), self.dataset, self.reporter)

    @functools.cached_property
    def network(self) -> Network:
        """The network for this data set's modalities and speakers."""
        data = self.system.grouped.data
        channels = tuple(v.shape[-1] for v in data.features)
        rows = self.system.grouped.of_split["train"]
        speakers = int(numbered(data.speaker[rows], data.graphs.valid[rows]).max()) + 1
        return Network.of(self.config.gcnet, self.task.outputs, channels, speakers)

    @functools.cached_property
    def phases(self) -> tuple[Phase, ...]:
        """One phase, validated under every pattern and some missing rates."""
        options, system = self.config.gcnet, self.system
        grouped = system.grouped
        rows = grouped.of_split["train"]
        labelled = known_labels(grouped.splits["train"].label).sum() / len(rows)
        common = {"all": grouped.data, "labelled": np.float32(labelled)}

        def load(params, seed, place):
            under = system.under("valid", system.validation_masks())
            return Source({"row": rows}, common), lambda current: self.error(current, *under)

        return (
            Phase(
                name="gcnet",
                title="GCNet",
                reads=(*options_group(type(self)), "graph.lengths"),
                settings=options.training,
                loss=loss_of(self.network, self.task, options.reconstruction),
                init=lambda key, params: self.initial(key),
                load=load,
                bucket=grouped.bucket[rows],
                buckets=grouped.lengths,
            ),
        )

    def initial(self, key: jax.Array) -> Params:
        """Return the network's initial parameters."""
        batch = self.system.grouped.data.at(np.zeros(1, int), self.system.grouped.lengths[0])
        given = (batch.features, batch.present, batch.speaker, batch.graphs.valid)
        return initial(self.network)(key, *given)

    def answers(
        self, params: Params, conversation: np.ndarray, observed: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return outputs (R, N, outputs) and rebuilt features (R, N, M, C) of R conversations.

        Args:
          conversation: (R,) rows of `Grouped.data`. observed: (R, N, M) bool.
        """
        call, data = _compiled(self.network), self.system.grouped.data
        return self.system.in_batches(
            conversation,
            lambda count, rows: call(params, data, conversation[rows], observed[rows], count=count),
        )

    def error(self, params: Params, conversation: np.ndarray, observed: np.ndarray) -> float:
        """Return the mean prediction error over utterances that have a label."""
        outputs, _ = self.answers(params, conversation, observed)
        data = self.system.grouped.data
        exists, label = (np.asarray(a)[conversation] for a in (data.graphs.valid, data.label))
        return self.task.mean_error(self.task.read(outputs)[exists], label[exists])

    @property
    def completes(self) -> tuple[str, ...]:
        """Completion and prediction are one pass of the network."""
        return ("gcnet", "gcnet")

    def complete(
        self, params: Params, split: str, observed: Observed, draws: int, key: jax.Array, title: str
    ) -> Completion:
        """Run the network; `x` has outputs and rebuilt features with K = 1."""
        under = self.system.under(split, observed.modalities)
        made, grouped = self.answers(params["gcnet"], *under), self.system.grouped
        shape = (len(observed.modalities), -1)
        parts = [
            np.stack([grouped.flat(split, a) for a in each.reshape(*shape, *each.shape[1:])])
            for each in made
        ]
        named = zip(("outputs", "rebuilt"), parts, strict=True)
        return Completion({name: part[:, :, None] for name, part in named}, observed)

    def predict(self, params: Params, split: str, completion: Completion) -> np.ndarray:
        """Return predictions (Q, N, 1, ...)."""
        return self.predict_with(None, params, split, completion)

    def predict_with(
        self, predictor: Params, params: Params, split: str, completion: Completion
    ) -> np.ndarray:
        """Return the predictions that the completion holds."""
        return self.task.read(completion.x["outputs"])

    def truth(self, params: Params, split: str) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """Return the standardised features of each modality (N, 1, C_m), and where they exist."""
        batch = self.system.grouped.splits[split]
        return tuple((batch.features[m], batch.valid[m]) for m in self.modalities)

    def compared(self, params: Params, completion: Completion, modality: int) -> np.ndarray:
        """Return rebuilt features of one modality, (Q, N, 1, 1, C_m)."""
        columns = self.network.channels[modality]
        return completion.x["rebuilt"][:, :, :, modality, None, :columns]
