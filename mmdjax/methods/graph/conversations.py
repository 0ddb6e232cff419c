"""A data set's utterances as padded conversations: components, graphs, and lengths.

Arrays over a split's utterances (N, ...) and over its conversations (G, N, ...) hold the same
values in the same order, since utterances of one conversation stand together: `placed` and `flat`
go from one to the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from mmdjax.data import components
from mmdjax.errors import UserError
from mmdjax.methods.graph.modules import Prepared
from mmdjax.methods.graph.programs import compiled_graphs
from mmdjax.types import Batch

if TYPE_CHECKING:
    from mmdjax.data.dataset import Dataset
    from mmdjax.methods.graph.settings import Graph


class Grouped:
    """The conversations of all splits, one split after the other, so that programs serve all.

    An utterance that stands alone (`Batch.talk` is None) is a conversation of one.

    Attributes:
      splits: split -> standardised utterances with one vector a modality.
      exists: split -> (G, N) bool, False for padding.
      of_split: split -> (G,) its conversations in `data`.
      data: `Prepared`, all conversations.
      number: (G,) of each conversation within its split: what noise is keyed by.
      lengths: to which conversations are padded. bucket: (G,) index into it.
      components, back: see `data/components.py`.
    """

    def __init__(self, dataset: Dataset, graph: Graph) -> None:
        """dataset: `mmdjax.data.dataset.Dataset`. graph: `Graph`, its settings."""
        self.splits = dataset.pooled.standardised
        sizes = {name: _sizes(batch) for name, batch in self.splits.items()}
        self.lengths = _lengths(graph.lengths, sizes, self.splits)
        columns = np.arange(self.lengths[-1])
        self.exists = {name: columns < size[:, None] for name, size in sizes.items()}
        ends = np.cumsum([0, *map(len, sizes.values())], dtype=np.int32)
        starts = zip(sizes, ends[:-1], ends[1:], strict=True)
        self.of_split = {name: np.arange(a, b, dtype=np.int32) for name, a, b in starts}
        self.number = np.concatenate([np.arange(len(s), dtype=np.int32) for s in sizes.values()])
        self.bucket = np.searchsorted(self.lengths, np.concatenate(list(sizes.values())))
        train = self.splits["train"]
        known = {m: x[train.valid[m]] for m, x in train.features.items()}
        self.components = components.fit(known, graph.components)
        self.back = tuple(map(jnp.asarray, self.components.back))
        self.data = self._data(graph)

    def _data(self, graph: Graph) -> Prepared:
        def joined(column):
            """(N, ...) of each split -> (G, N, ...) of all of them, 0 where nothing exists."""
            parts = [self.placed(name, column(batch), 0) for name, batch in self.splits.items()]
            return jax.device_put(np.concatenate(parts))  # labels may be NaN, and are no mistake

        def talk(name, dtype):
            return lambda batch: (
                np.zeros(len(batch), dtype)
                if batch.talk is None
                else np.asarray(getattr(batch.talk, name), dtype)
            )

        features = tuple(joined(lambda b, m=m: b.features[m][:, 0]) for m in self.modalities)
        position, speaker = joined(talk("position", np.float32)), joined(talk("speaker", np.int32))
        known = compiled_graphs(graph.basis, tuple(graph.edges().items()))
        valid = jnp.asarray(np.concatenate(list(self.exists.values())))
        present = [self.placed(name, batch.present, True) for name, batch in self.splits.items()]
        return Prepared(
            x=joined(lambda b: self.components.of([x[:, 0] for x in b.features.values()])),
            features=features,
            present=jnp.asarray(np.concatenate(present)),
            label=joined(lambda b: np.asarray(b.label)),
            position=position,
            speaker=speaker,
            graphs=known(position, speaker, valid),
        )

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names in the order of the modality axis."""
        return self.splits["train"].modalities

    def known(self, split: str) -> np.ndarray:
        """Return (G, M) bool: every utterance has the modality, so that its graph is known."""
        return np.asarray(self.data.present)[self.of_split[split]].all(1)

    def placed(self, split: str, values: np.ndarray, padding: float) -> np.ndarray:
        """Return (G, N, ...) of a split's utterances (N, ...), `padding` where there are none."""
        exists = self.exists[split]
        result = np.full((*exists.shape, *values.shape[1:]), padding, values.dtype)
        result[exists] = values
        return result

    def observed(self, split: str, masks: np.ndarray) -> np.ndarray:
        """Return (Q, G, N, M) of masks (Q, N, M); padding counts as observed."""
        return np.stack([self.placed(split, mask, True) for mask in masks])

    def flat(self, split: str, values: np.ndarray) -> np.ndarray:
        """Return (N, ...) over a split's utterances, of values (G, N, ...)."""
        return values[self.exists[split]]

    def flat_draws(self, split: str, values: np.ndarray) -> np.ndarray:
        """Return (Q, N, K, ...) over a split's utterances, of values (Q, G, K, N, ...)."""
        return np.moveaxis(values, 3, 2)[:, self.exists[split]]

    def placed_draws(self, split: str, values: np.ndarray) -> np.ndarray:
        """Return (Q, G, K, N, ...) of a split's utterances (Q, N, K, ...), 0 for padding."""
        return np.stack([self.placed(split, v, 0) for v in values]).swapaxes(2, 3)


def _sizes(batch: Batch) -> np.ndarray:
    """(G,) utterances of each conversation."""
    if batch.talk is None:
        return np.ones(len(batch), int)
    return np.diff(np.append(_starts(batch), len(batch)))


def _starts(batch: Batch) -> np.ndarray:
    name = batch.talk.conversation
    return np.append(0, np.flatnonzero(name[1:] != name[:-1]) + 1)


def _lengths(
    asked: Sequence[int], sizes: Mapping[str, np.ndarray], splits: Mapping[str, Batch]
) -> tuple[int, ...]:
    """Return the lengths that conversations are padded to, in increasing order.

    Raises:
      UserError: a conversation is longer than all of `asked`.
    """
    if not asked:
        return automatic_lengths(sizes)
    for split, size in sizes.items():
        if size.max() > asked[-1]:
            name = str(splits[split].talk.conversation[_starts(splits[split])[size.argmax()]])
            raise UserError(
                f"conversation {name!r} has {size.max()} utterances; allowed: at most "
                f"{asked[-1]}, the last of config.graph.lengths"
            )
    return tuple(asked)


def automatic_lengths(sizes: Mapping[str, np.ndarray]) -> tuple[int, ...]:
    """Return at most four lengths for conversations of these sizes.

    They are the longest of the training split, a half and a quarter of it (powers of two) where
    these hold a quarter of its conversations, and the longest of the other splits where it is
    longer still: every length is one more program of each kind to compile. Batches of training
    depend on the training split alone.
    """
    train = int(sizes["train"].max())
    top = 1 << (train - 1).bit_length()  # the next power of two
    shorter = [n for n in (top // 4, top // 2) if (sizes["train"] <= n).mean() >= 0.25]
    longest = max(int(size.max()) for size in sizes.values())
    return tuple(sorted({n for n in (*shorter, train, longest) if n}))
