"""One variant of GSDNet on one data set, as compiled functions over sets of conversations.

One object serves every seed and every method of `methods/gsdnet.py`: parameters are arguments, so
nothing compiles twice. Others read of it (`method.system`, or `method.plain` for the variant that
complete data and constant fills have):

    modalities, patterns, task    of the data set
    modules, predictor, scale     networks of the variant; one unit of its graphs' state
    grouped                       `Grouped`: data, of_split, splits, components, back, flat, ...
    draw_sets, constant_sets      -> `Sets`, completed conversations; predict: of such sets
    validation_masks              what is hidden in validation
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from mmdjax.data.missing.patterns import random_mask
from mmdjax.methods.batches import by_length, calls_by_length
from mmdjax.methods.graph.conversations import Grouped
from mmdjax.methods.graph.modules import build
from mmdjax.methods.graph.programs import (
    Sets,
    compiled_draw,
    compiled_prediction,
    compiled_shown,
    compiled_square,
)
from mmdjax.runtime.compilation import shapes_of
from mmdjax.types import Params, hidden

if TYPE_CHECKING:
    from mmdjax.data.dataset import Dataset
    from mmdjax.runtime.progress import Reporter

VALIDATION_RATES = (0.3, 0.5, 0.7)


def system_of(config: Any, dataset: Dataset, reporter: Reporter) -> System:
    """Return the system of `config.graph.variant`; methods that agree in what it reads share it."""
    key: tuple[Any, ...] = (
        "graph system",
        config.graph,
        config.score,
        config.diffusion,
        config.evaluation.batch,
    )
    key += (config.classifier_training, config.score_training, config.stage2_training)
    key += (config.student, config.student_training, config.rounds)
    return dataset.shared(key, lambda: System(config, dataset, reporter))


class System:
    """The networks of `config.graph.variant` on one data set.

    Attributes:
      modalities: names in the order of the modality axis.
      patterns: (P, M) availability patterns, the complete one last.
      grouped: conversations, which variants share.
      modules, predictor: networks, see `modules.py`.
    """

    def __init__(self, config: Any, dataset: Dataset, reporter: Reporter) -> None:
        """config: `mmdjax.config.Config`. dataset: `mmdjax.data.dataset.Dataset`."""
        self.config, self.reporter, self.task = config, reporter, dataset.task
        self.modalities, self.patterns = dataset.modalities, dataset.patterns
        graph = config.graph
        edges = tuple(graph.edges().items())
        key = ("conversations", graph.components, edges, graph.basis, graph.lengths)
        self.grouped = dataset.shared(key, lambda: Grouped(dataset, graph))
        self.modules, self.predictor = build(config, len(self.modalities), self.task.outputs)

    @functools.cached_property
    def scale(self) -> np.float32:
        """Root mean square of the state of the training split's graphs, of those that are known."""
        train = self.grouped.of_split["train"]
        square = compiled_square(self.modules.state)(self.grouped.data, train)
        return np.float32(max(float(np.sqrt(square)), 1e-6))

    def draw_sets(
        self,
        params: Params,
        conversation: np.ndarray,
        observed: np.ndarray,
        index: np.ndarray,
        key: jax.Array,
        title: str,
    ) -> tuple[Sets, int]:
        """Draw what is missing of R conversations.

        The noise of a draw depends on `key`, the conversation's number within its split and the
        draw's index alone: what is observed, the order and other conversations do not change it.

        Args:
          params: {'features', 'graph'} of the score networks.
          conversation: (R,) rows in `grouped.data`. observed: (R, N, M) bool.
          index: (R,) int32 of the draw among those of its conversation.
          title: for the progress bar.

        Returns:
          The sets, and the network evaluations of each.
        """
        compiled, number = compiled_draw(self.modules, self.config.diffusion), self.grouped.number

        def call(count, rows):
            chosen = conversation[rows]
            return compiled(
                params,
                self.grouped.data,
                self.scale,
                key,
                chosen,
                number[chosen],
                index[rows],
                observed[rows],
                count=count,
            )

        x, graphs, nfe = self.in_batches(conversation, call, title)
        return Sets(conversation, observed, x, graphs), int(nfe.max())

    def constant_sets(self, conversation: np.ndarray, observed: np.ndarray) -> Sets:
        """Put the mean, which is 0, in place of what is hidden; arguments as of `draw_sets`."""
        compiled = compiled_shown(self.modules.state)

        def call(count, rows):
            given = (conversation[rows], observed[rows])
            return compiled(self.grouped.data, *given, self.scale, count=count)

        return Sets(conversation, observed, *self.in_batches(conversation, call))

    def predict(self, params: Params, sets: Sets) -> np.ndarray:
        """Return predictions (R, N, ...) of sets, as the task's `read` gives them.

        Args:
          params: {'gcn'}, and {'features', 'graph'} where drawn values are to be corrected.
        """
        compiled = compiled_prediction(self.predictor, self.task)
        data, back = self.grouped.data, self.grouped.back

        def call(count, rows):
            return compiled(params, data, back, self.scale, *(a[rows] for a in sets), count=count)

        return self.in_batches(sets.conversation, call)

    def error(self, params: Params, sets: Sets) -> float:
        """Return the mean prediction error over the utterances of sets that have a label."""
        prediction, data = self.predict(params, sets), self.grouped.data
        exists = np.asarray(data.graphs.valid)[sets.conversation]
        label = np.asarray(data.label)[sets.conversation]
        return self.task.mean_error(prediction[exists], label[exists])

    def in_batches(self, conversation: np.ndarray, call: Callable, title: str = "") -> Any:
        """Return `call` (utterances, rows (B,)) over all sets, in batches of one length each."""
        bucket, batch = self.grouped.bucket[conversation], self.config.evaluation.batch
        rows = (np.arange(len(conversation)),)
        run = functools.partial(by_length, call, rows, bucket, self.grouped.lengths, batch)
        if not title:
            return run()
        with self.reporter.phase(title, calls_by_length(bucket, batch)) as progress:
            return run(progress.advance)

    def validation_masks(self) -> np.ndarray:
        """Return what is observed (Q, N, M) of the validation split's utterances: every pattern,
        and some rates of the random protocol, of what is there."""
        present = self.grouped.splits["valid"].present
        utterances, modalities = present.shape
        masks = [np.tile(pattern, (utterances, 1)) for pattern in self.patterns]
        for rate in VALIDATION_RATES:
            largest = (modalities - 1) / modalities
            masks.append(random_mask(utterances, modalities, min(rate, largest), 0))
        return hidden(np.stack(masks), present)

    def under(self, split: str, masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return a split's conversations under masks (Q, N, M): their rows (Q G,), and what is
        observed (Q G, N, M) of what is there."""
        observed = self.grouped.observed(split, masks & self.grouped.splits[split].present)
        conversation = np.tile(self.grouped.of_split[split], len(masks))
        return conversation, observed.reshape(-1, *observed.shape[2:])

    def everything(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the conversations of a split and all that is there, nothing being hidden."""
        conversation = self.grouped.of_split[split]
        return conversation, np.asarray(self.grouped.data.present)[conversation]

    def prepare_draw(self, params: Params) -> None:
        """Start compiling the draws in the background; params: their shapes."""
        compiled = compiled_draw(self.modules, self.config.diffusion)
        batch, shape = self.config.evaluation.batch, jax.ShapeDtypeStruct
        rows, scale = shape((batch,), np.int32), shape((), np.float32)
        data = self.grouped.data
        observed = shape((batch, *data.x.shape[1:3]), bool)
        key = jax.eval_shape(lambda: jax.random.key(0))
        for length in self.used_lengths:
            arguments = (shapes_of(data), scale, key, rows, rows, rows, observed)
            compiled.prepare(params, *arguments, count=length)

    @property
    def used_lengths(self) -> list[int]:
        """Lengths that some conversation has."""
        return [self.grouped.lengths[i] for i in np.unique(self.grouped.bucket)]

    def shapes_of_sets(self, size: int) -> Sets:
        """Return the shapes of `size` sets."""
        shape, sizes = jax.ShapeDtypeStruct, self.grouped.data.x.shape[1:]
        count, modalities = sizes[:2]
        return Sets(
            shape((size,), np.int32),
            shape((size, count, modalities), bool),
            shape((size, *sizes), np.float32),
            shape((size, count, self.modules.state.columns(count, modalities)), np.float32),
        )
