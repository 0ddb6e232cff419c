"""GSDNet on one data set, as compiled functions over whole splits: draw, complete, predict.

One object serves every seed: parameters are arguments, so nothing compiles twice.
`graph_stages.py` trains it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmdjax.data import components
from mmdjax.data.components import Components
from mmdjax.data.conversations import Conversations, Padded, padded, utterances
from mmdjax.data.missing.patterns import patterns
from mmdjax.data.pipeline import scaling, standardise
from mmdjax.methods.graph.programs import (
    Sets,
    compiled_completion,
    compiled_draw,
    compiled_graphs,
    compiled_shown,
    compiled_square,
)
from mmdjax.methods.gsdnet import VARIANTS, Completed, Prepared, build
from mmdjax.runtime.compilation import shapes_of
from mmdjax.runtime.processes import dealt


class Trained(NamedTuple):
    """Everything that prediction needs, and the history of each phase.

    Attributes:
      score: variant -> {'features', 'graph'}. complete: {'gcn'} of complete data.
      stage2: 'mean' and variants -> {'gcn', 'features', 'graph'}.
      history: phase -> epoch, train, valid, best, seconds.
    """

    score: dict[str, dict]
    complete: dict
    stage2: dict[str, dict]
    history: dict[str, dict]


class GraphSystem:
    """The system of one configuration on one data set.

    Attributes:
      modalities: names in the order of the modality axis.
      patterns: (P, M) availability patterns, the complete one last.
      batches: split -> every utterance by itself, standardised. scaling: see `data.pipeline`.
      data: conversations of all splits, one split after the other, so that programs serve all.
      of_split: split -> (G,) its conversations in `data`.
      places: split -> (G, N) row of each utterance in `batches`, -1 for padding.
      bucket: (G,) index into `buckets`, of all splits.
      components, back: see `data/components.py`.
      modules, predictors: by variant. scale: by variant, one unit of its graphs' state.
    """

    def __init__(self, config, raw: Mapping[str, Conversations], reporter):
        self.config, self.reporter = config, reporter
        self.modalities = raw["train"].modalities
        self.patterns = patterns(len(self.modalities))
        self.buckets = config.data.length_buckets
        batches = {name: utterances(part) for name, part in raw.items()}
        self.batches, self.scaling = standardise(batches), scaling(batches["train"])
        train = {m: x[:, 0] for m, x in self.batches["train"].features.items()}
        self.components = found = components.fit(train, config.graph.components)
        self.back = tuple(map(jnp.asarray, found.back))
        parts = {name: padded(part, self.buckets[-1]) for name, part in raw.items()}
        self.places = {name: part.row for name, part in parts.items()}
        ends = np.cumsum([0, *map(len, self.places.values())], dtype=np.int32)
        starts = zip(parts, ends[:-1], ends[1:], strict=True)
        self.of_split = {name: np.arange(a, b, dtype=np.int32) for name, a, b in starts}
        self.data = self._data(parts, found)
        lengths = np.concatenate([(row >= 0).sum(1) for row in self.places.values()])
        self.bucket = np.searchsorted(self.buckets, lengths)
        self.modules, self.predictors = build(config, len(self.modalities))
        self.scale = {name: self._unit(name) for name in self.modules}

    def _data(self, parts: Mapping[str, Padded], found: Components) -> Prepared:
        def spread(split, a):
            row = self.places[split]
            mask = (row >= 0).reshape(*row.shape, *[1] * (a.ndim - 1))
            return np.where(mask, a[row], np.float32(0))

        def joined(columns):
            return jnp.asarray(np.concatenate(list(columns)))

        flat = {
            name: [x[:, 0] for x in batch.features.values()] for name, batch in self.batches.items()
        }
        x = joined(spread(name, found.of(own)) for name, own in flat.items())
        features = tuple(
            joined(spread(name, own[m]) for name, own in flat.items())
            for m in range(len(self.modalities))
        )
        position, label, speaker, valid = (
            joined(getattr(part, field) for part in parts.values())
            for field in ("position", "label", "speaker", "valid")
        )
        graph = self.config.graph
        known = compiled_graphs(graph.basis, tuple(graph.edges().items()))
        return Prepared(x, features, label, position, speaker, known(position, speaker, valid))

    def _unit(self, name: str) -> np.float32:
        """Root mean square of a variant's state over the training split."""
        train = self.of_split["train"]
        square = compiled_square(self.modules[name].state)(self.data, train)
        return np.float32(max(float(np.sqrt(square)), 1e-6))

    def draw_sets(
        self, variant: str, params, conversation, observed, draws: int, key, title: str
    ) -> tuple[Sets, int]:
        """`draws` completions of each conversation (Q,) of which observed (Q, N, M) is given.

        The noise of a draw depends on its conversation and number alone, so what is observed, the
        order and the other conversations do not change it.

        Returns:
          Q draws sets, those of a conversation together, and the NFE of each.
        """
        modules = self.modules[variant]
        compiled, size = compiled_draw(modules, self.config.diffusion), len(conversation) * draws
        x = np.zeros((size, *self.data.x.shape[1:]), np.float32)
        count, modalities = self.data.x.shape[1:3]
        graphs = np.zeros((size, count, modules.state.columns(count, modalities)), np.float32)
        number = np.arange(size, dtype=np.int32) % draws
        rows, seen = np.repeat(conversation, draws), np.repeat(observed, draws, axis=0)
        nfe, scale = 0, self.scale[variant]
        calls = list(self._calls(rows))

        def call(index: int):
            _, filled, n = calls[index]
            arguments = (self.data, scale, key, *(a[filled] for a in (rows, number, seen)))
            return compiled(params, *arguments, count=n)

        with self.reporter.phase(title, len(calls)) as progress:
            results = dealt(len(calls), call)
            for (part, _, _), (drawn, state, evaluations) in zip(calls, results, strict=True):
                nfe = int(evaluations)
                x[part] = np.asarray(drawn)[: len(part)]
                graphs[part] = np.asarray(state)[: len(part)]
                progress.advance()
        return Sets(rows, seen, x, graphs), nfe

    def prepare_draw(self, variant: str, params) -> None:
        """Starts compiling the draws in the background; params: their shapes."""
        compiled = compiled_draw(self.modules[variant], self.config.diffusion)
        batch, shape = self.config.evaluation.batch, jax.ShapeDtypeStruct
        rows, scale = shape((batch,), np.int32), shape((), np.float32)
        observed = shape((batch, *self.data.x.shape[1:3]), bool)
        key = jax.eval_shape(lambda: jax.random.key(0))
        for index in np.unique(self.bucket):
            arguments = (params, shapes_of(self.data), scale, key, rows, rows, observed)
            compiled.prepare(*arguments, count=self.buckets[index])

    def shapes_of_sets(self, variant: str, size: int) -> Sets:
        shape, (count, modalities) = jax.ShapeDtypeStruct, self.data.x.shape[1:3]
        columns = self.modules[variant].state.columns(count, modalities)
        return Sets(
            shape((size,), np.int32),
            shape((size, count, modalities), bool),
            shape((size, *self.data.x.shape[1:]), np.float32),
            shape((size, count, columns), np.float32),
        )

    def constant_sets(self, conversation, observed) -> Sets:
        """The mean, which is 0, in place of what is hidden."""
        name = self.constant
        of = compiled_shown(self.modules[name].state)
        known = of(self.data, conversation, observed, self.scale[name])
        return Sets(conversation, observed, np.asarray(known.x), np.asarray(known.partial))

    def placed(self, split: str, mask: np.ndarray) -> np.ndarray:
        """(U, M) over a split's utterances -> (G, N, M); padding counts as observed."""
        places = self.places[split]
        return np.where(places[..., None] >= 0, mask[places], True)

    def flat(self, split: str, values: np.ndarray) -> np.ndarray:
        """(G, N, ...) over a split's conversations -> (U, ...)."""
        places = self.places[split]
        result = np.zeros((places.max() + 1, *values.shape[2:]), values.dtype)
        result[places[places >= 0]] = values[places >= 0]
        return result

    @property
    def constant(self) -> str:
        """The variant whose graphs constant fills and complete data use."""
        return self.config.graph.variants[0]

    def complete(self, variant: str, params, sets: Sets) -> Completed:
        """Corrected and predicted, (Q, ...) of `Completed`; raw outputs of the network."""
        compiled, result = compiled_completion(self.predictors[variant]), None
        calls = list(self._calls(sets.conversation))

        def call(index: int):
            _, filled, n = calls[index]
            arguments = (self.data, self.back, self.scale[variant], *(a[filled] for a in sets))
            return jax.tree.map(np.asarray, compiled(params, *arguments, count=n))

        for (part, _, _), found in zip(calls, dealt(len(calls), call), strict=True):
            if result is None:
                size = len(sets.conversation)
                result = Completed(*(np.zeros((size, *a.shape[1:]), a.dtype) for a in found))
            for whole, piece in zip(result, found, strict=True):
                whole[part] = piece[: len(part)]
        return result

    def predicted(self, outputs: np.ndarray, draws: int = 1) -> np.ndarray:
        """(Q draws, N, outputs) -> (Q, N) sentiment, or (Q, N, classes) probabilities; mean of the
        draws of a conversation."""
        if self.config.data.classes:
            outputs = np.exp(outputs - outputs.max(-1, keepdims=True))
            outputs = outputs / outputs.sum(-1, keepdims=True)
        else:
            outputs = outputs[..., 0]
        return outputs.reshape(-1, draws, *outputs.shape[1:]).mean(1)

    def _calls(self, rows) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
        """(indices into rows, the same filled up to a batch, utterances) of each call."""
        bucket, batch = self.bucket[rows], self.config.evaluation.batch
        for index, count in enumerate(self.buckets):
            found = np.flatnonzero(bucket == index)
            for start in range(0, len(found), batch):
                part = found[start : start + batch]
                yield part, np.resize(part, batch), count


def fills_of(config) -> tuple[str, ...]:
    """What stage 2 is trained with: variants for 'draws', and 'mean'."""
    drawn = config.graph.variants if "draws" in config.fills else ()
    return (*drawn, *(fill for fill in config.fills if fill != "draws"))


def drawn_variants(config) -> tuple[str, ...]:
    return tuple(fill for fill in fills_of(config) if fill in VARIANTS)
