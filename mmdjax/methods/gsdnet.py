"""GSDNet: features and graphs of whole conversations are drawn together.

Shou et al. (2025), "GSDNet: Revisiting Incomplete Multimodal-Diffusion from Graph Spectrum
Perspective for Conversation Emotion Recognition". An utterance is completed from its own
modalities and from its neighbours. `methods/graph` has the parts; its variants are systems of
their own: 'gsdnet graph.variant=dense'.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, NamedTuple

import jax
import numpy as np

from mmdjax.data.formats.lazy import listed
from mmdjax.errors import UserError
from mmdjax.methods.graph import phases
from mmdjax.methods.graph.initial import initial_score
from mmdjax.methods.graph.programs import Sets, compiled_draw
from mmdjax.methods.graph.system import System, system_of
from mmdjax.methods.graph.variants import PLAIN
from mmdjax.methods.latent import students
from mmdjax.methods.method import SOLVER, Completion, Method, Phase, register
from mmdjax.types import Observed, Params

STUDENTS = ("energy",)  # that conversations have


class Drawn(NamedTuple):
    """Completions of N utterances under Q conditions, K each.

    Attributes:
      x: (Q, N, K, M, D) components.
      graphs: (Q, N, K, S), the rows of the state of each conversation's graphs that belong to its
        utterances: those of padding are 0. One unit is `System.scale`.
    """

    x: np.ndarray
    graphs: np.ndarray


class GraphMethod(Method):
    """Completes components and graphs of conversations, and predicts with a GCN.

    Class attributes:
      trains: names of its phases, see `phases.of_name`.
      predicts: the phase whose parameters predict.
    """

    sees = "conversations"
    serving = "mmdjax.methods.graph.served"
    trains: ClassVar[tuple[str, ...]] = (phases.CLASSIFIER_NAME,)
    predicts = phases.CLASSIFIER_NAME

    @classmethod
    def check(cls, config: Any) -> None:
        """Raise `UserError` for lengths that do not increase, or tables of other modalities."""
        graph, modalities = config.graph, config.data.modalities
        if list(graph.lengths) != sorted(set(graph.lengths)):
            raise UserError(
                f"config.graph.lengths = {graph.lengths}; allowed: increasing numbers of "
                "utterances, or () to choose them from the data"
            )
        if graph.published and len(modalities) not in (0, 3):
            raise UserError(
                f"config.graph.published = {graph.published!r} with {len(modalities)} "
                "modalities; allowed: 3"
            )

    @functools.cached_property
    def plain(self) -> System:
        """The system whose graphs complete data and constant fills have."""
        graph = dataclasses.replace(self.config.graph, variant=PLAIN)
        config = dataclasses.replace(self.config, graph=graph)
        return system_of(config, self.dataset, self.reporter)

    @property
    def system(self) -> System:
        """The system that completes conversations."""
        return self.plain

    @functools.cached_property
    def phases(self) -> tuple[Phase, ...]:
        """What is trained, in the order of `trains`."""
        return tuple(phases.of_name(self.plain, self.system, name) for name in self.trains)

    def complete(
        self, params: Params, split: str, observed: Observed, draws: int, key: jax.Array, title: str
    ) -> Completion:
        """Complete conversations, `x` is `Drawn`; see `Method.complete`."""
        conversation, masks = self._given(split, observed, draws)
        if observed.everything:
            # With nothing missing every draw is the conversation itself.
            sets, nfe = self.system.constant_sets(conversation, masks), 0
        else:
            sets, nfe = self.complete_sets(params, conversation, masks, draws, key, title)
        grouped, conditions = self.system.grouped, len(observed.modalities)
        x, graphs = (
            grouped.flat_draws(split, a.reshape(conditions, -1, draws, *a.shape[1:]))
            for a in (sets.x, sets.graphs)
        )
        return Completion(Drawn(x, graphs), observed, nfe)

    def complete_sets(
        self,
        params: Params,
        conversation: np.ndarray,
        observed: np.ndarray,
        draws: int,
        key: jax.Array,
        title: str,
    ) -> tuple[Sets, int]:
        """Return completed sets, and their network evaluations.

        Args:
          conversation: (R,), observed: (R, N, M); the `draws` of a conversation stand together.
        """
        return self.system.constant_sets(conversation, observed), 0

    def predict(self, params: Params, split: str, completion: Completion) -> np.ndarray:
        """Return predictions (Q, N, K, ...) of every utterance."""
        return self.predict_with(params[self.predicts], params, split, completion)

    def predict_with(
        self, predictor: Params, params: Params, split: str, completion: Completion
    ) -> np.ndarray:
        """Return the predictions of a GCN, after D_X and D_Lambda if it has them."""
        grouped = self.system.grouped
        placed = [grouped.placed_draws(split, a) for a in completion.x]
        lead = placed[0].shape[:3]  # conditions, conversations, draws
        flat = [a.reshape(-1, *a.shape[3:]) for a in placed]
        sets = Sets(*self._given(split, completion.observed, lead[2]), *flat)
        prediction = self.system.predict(predictor, sets)
        return grouped.flat_draws(split, prediction.reshape(*lead, *prediction.shape[1:]))

    def truth(self, params: Params, split: str) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """Return the standardised features of each modality (N, 1, C_m), and where they exist."""
        batch = self.system.grouped.splits[split]
        return tuple((batch.features[m], batch.valid[m]) for m in self.modalities)

    def compared(self, params: Params, completion: Completion, modality: int) -> np.ndarray:
        """Return completed standardised features of one modality, (Q, N, K, 1, C_m)."""
        x = completion.x.x[..., modality, :] @ self.system.grouped.components.back[modality]
        return x[:, :, :, None]

    def _given(self, split: str, observed: Observed, draws: int) -> Iterator[np.ndarray]:
        """Conversations (Q G K,) and what is observed (Q G K, N, M), draws being innermost."""
        every = self.system.under(split, observed.modalities)
        return (np.repeat(a, draws, axis=0) for a in every)


class DrawingMethod(GraphMethod):
    """Draws what conversations miss from its distribution given what they show."""

    draws = True
    trains = (phases.CLASSIFIER_NAME, phases.SCORE_NAME)

    @property
    def completes(self) -> tuple[str, ...]:
        """Draws depend on the networks that draw, and on the solver."""
        return ("conversation draws", phases.SCORE_NAME, phases.drawn_by(self.config), *SOLVER)

    @functools.cached_property
    def phases(self) -> tuple[Phase, ...]:
        """What is trained, with a student behind the score networks it starts from."""
        classifier, score, *rest = super().phases
        learned = (phases.student(self.system),) if self.config.diffusion.student else ()
        return (classifier, score, *learned, *rest)

    @classmethod
    def check(cls, config: Any) -> None:
        """Raise `UserError` for samplers and widths that the graph networks cannot have."""
        super().check(config)
        students.check(config, cls.name, STUDENTS)
        graph, heads, diffusion = config.graph, config.score.heads, config.diffusion
        if heads and graph.spectrum_width % heads:
            raise UserError(
                f"config.graph.spectrum_width = {graph.spectrum_width}; allowed: a multiple of "
                f"{heads} heads"
            )
        if diffusion.guidance != 1 or diffusion.sampler == "adaptive":
            raise UserError(
                f"config.diffusion: guidance {diffusion.guidance:g}, sampler "
                f"{diffusion.sampler!r}; allowed for {cls.name}: guidance 1, with a fixed grid"
            )

    @classmethod
    def describe(cls, config: Any, label: str) -> str:
        """Name the variant, unless it is GSDNet itself."""
        if config.graph.variant == PLAIN:
            return label
        return label.replace(cls.label, f"{cls.label}, {config.graph.variant}", 1)

    @functools.cached_property
    def system(self) -> System:
        """The system of `config.graph.variant`.

        Raises:
          UserError: it draws graphs, of which training has not one to learn from.
        """
        system = system_of(self.config, self.dataset, self.reporter)
        known = system.grouped.known("train").any(0)
        if system.modules.graph is not None and not known.all():
            names = listed(m for m, some in zip(self.modalities, known, strict=True) if not some)
            raise UserError(
                f"no training conversation has {names} in every utterance, so that graphs of it "
                f"cannot be learned; allowed: config.graph.variant = 'structure', which draws none"
            )
        return system

    def complete_sets(
        self,
        params: Params,
        conversation: np.ndarray,
        observed: np.ndarray,
        draws: int,
        key: jax.Array,
        title: str,
    ) -> tuple[Sets, int]:
        """Draw what is missing."""
        index = np.arange(len(conversation), dtype=np.int32) % draws
        score = params[phases.drawn_by(self.config)]
        return self.system.draw_sets(score, conversation, observed, index, key, title)

    def draw_call(self) -> tuple[Callable, dict[str, Any]]:
        """Return a full batch of draws of the longest conversations, each of one modality."""
        system, batch = self.system, self.config.evaluation.batch
        grouped = system.grouped
        longest = np.flatnonzero(grouped.bucket == grouped.bucket.max()).astype(np.int32)
        rows = np.resize(longest, batch)
        observed = np.ones((batch, *grouped.data.x.shape[1:3]), bool)
        observed[:, :, 0] = False
        shapes = jax.eval_shape(functools.partial(initial_score, system), jax.random.key(0))
        # Zeros as parameters take as long as trained ones.
        params = jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), shapes)
        params, key = jax.device_put(params), jax.random.key(0)
        compiled, index = compiled_draw(system.modules, self.config.diffusion), np.zeros_like(rows)
        arguments = (grouped.data, system.scale, key, rows, grouped.number[rows], index, observed)
        count = grouped.lengths[grouped.bucket.max()]

        def call():
            x, _, nfe = compiled(params, *arguments, count=count)
            return x, nfe

        size = sum(a.size for a in jax.tree.leaves(shapes))
        return call, {"parameters": size, "batch": batch}


@register("gsdnet", label="GSDNet", published="GSDNet")
class GSDNet(DrawingMethod):
    """Draws are corrected and go to a GCN that was trained on such sets (stage 2)."""

    companions = (
        "gsdnet evaluation.draws=1",
        "gsdnet_complete",
        "gsdnet_mean_trained",
        "gsdnet_mean",
        "linear_probe",
        "bayes",
        "bayes_alone",
    )
    pages = "mmdjax.evaluation.graph_report"
    trains = (phases.CLASSIFIER_NAME, phases.SCORE_NAME, phases.STAGE_2_NAME)
    predicts = phases.STAGE_2_NAME


@register("gsdnet_complete", label="GSDNet, complete")
class GSDNetComplete(DrawingMethod):
    """Draws go to the GCN that was trained on complete data: no stage 2."""


@register("gsdnet_mean", label="GCN, mean")
class GSDNetMean(GraphMethod):
    """Training means go to the GCN that was trained on complete data."""

    completes = ("conversation means", *phases.GROUPED)


@register("gsdnet_mean_trained", label="GCN, mean (trained)")
class GSDNetMeanTrained(GSDNetMean):
    """Training means go to a GCN that was trained with the same fills."""

    trains = (phases.CLASSIFIER_NAME, phases.MEAN_NAME)
    predicts = phases.MEAN_NAME
