"""The work list: which rows are drawn when, in full batches of one shape.

Only missing (row, modality) pairs are drawn, bucketed by target, number of conditions and length,
so no condition token is wasted on an absent modality or on padding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from mmdjax.data.missing.patterns import check_observed
from mmdjax.methods.batches import in_batches, nothing
from mmdjax.methods.latent.cover import Cover
from mmdjax.methods.latent.draw import Drawer
from mmdjax.runtime.devices import on_all_devices
from mmdjax.types import Params


def bucket_of(valid: np.ndarray, buckets: Sequence[int]) -> np.ndarray:
    """(N,) index of the shortest bucket that holds every valid frame of valid (N, M, T)."""
    frames = valid.shape[-1]
    last = frames - np.argmax(valid.any(1)[:, ::-1], axis=1)
    return np.searchsorted(np.asarray(buckets), np.where(valid.any((1, 2)), last, 1))


class Item(NamedTuple):
    """Rows that miss `targets`, know something of equally many modalities, and have one length.

    Attributes:
      targets: (G,) modalities to draw. frames: T of the bucket.
      rows: (R,) indices. known: (R, C) modalities each row is conditioned on.
      shared: the draws of a row have one condition, encoded once: nothing of these was drawn.
      gaps: some modality of each row is known in part.
    """

    targets: np.ndarray
    frames: int
    rows: np.ndarray
    known: np.ndarray
    shared: bool
    gaps: bool

    def per_call(self, batch: int, draws: int) -> int:
        """Rows, or rows times draws, of a call that draws `batch` times a target at most."""
        return max(1, batch // draws) if self.shared else batch

    def calls(self, batch: int, draws: int) -> int:
        rows = len(self.rows) * (1 if self.shared else draws)
        return -(-rows // self.per_call(batch, draws))


def work_list(
    known: np.ndarray,
    missing: np.ndarray,
    bucket: np.ndarray,
    buckets: Sequence[int],
    coupling: str,
    together: bool = False,
    share: bool = True,
    draws: int = 1,
) -> Iterator[Item]:
    """Every (row, modality) pair that misses something once; a row's later draws come after its
    earlier ones.

    With coupling 'chain' a second missing modality is drawn given the first one's draw, which is
    the joint law of both by the chain rule; 'independent' conditions each on the observed only.

    Args:
      known: (R, M) bool, something of it is observed. missing: (R, M) bool, something is not; a
        modality known in part is drawn given its own frames too.
      bucket: (R,) index into `buckets`.
      together: 'independent' targets of a row in one item, where none is known in part.
      share: see `Drawer`.
      draws: K; with one draw a row there is nothing to share, and batches are not split over it.
    """
    known, gaps = known.copy(), (known & missing).any(1)
    begun, alone = np.zeros(len(known), bool), gaps | (not together)
    groups = [(np.array([m]), missing[:, m] & alone) for m in range(known.shape[1])]
    for pattern in np.unique(missing[~alone], axis=0):
        if pattern.any():
            groups.append((np.flatnonzero(pattern), ~alone & (missing == pattern).all(1)))
    for targets, rows_of_group in groups:
        one_condition = (share & ~begun) | (draws == 1)
        keys = np.stack([known.sum(1), one_condition, bucket, gaps], axis=1)
        for size, shared, index, gappy in np.unique(keys[rows_of_group], axis=0):
            same = (keys == (size, shared, index, gappy)).all(1)
            rows = np.flatnonzero(rows_of_group & same)
            # The columns of the known ones: a stable sort puts them first, in order.
            order = np.argsort(~known[rows], axis=1, kind="stable")[:, :size].astype(np.int32)
            yield Item(
                targets.astype(np.int32), buckets[index], rows, order, bool(shared), bool(gappy)
            )
        if coupling == "chain":
            known[:, targets] = True
            begun |= rows_of_group


def covered(valid: np.ndarray, observed: np.ndarray) -> Cover:
    """Return the cover of R rows, see `draw_missing`.

    Raises:
      UserError: a row without anything observed.
    """
    cover = Cover(observed, valid) if observed.ndim == 3 else Cover.of_modalities(observed, valid)
    check_observed(observed if observed.ndim == 2 else cover.known)
    return cover


def items(drawer: Drawer, cover: Cover, buckets: Sequence[int], draws: int) -> list[Item]:
    """Return the work list of a drawer."""
    return list(
        work_list(
            cover.known,
            cover.missing,
            bucket_of(cover.exists, buckets),
            buckets,
            drawer.coupling,
            drawer.together,
            drawer.share,
            draws,
        )
    )


def calls(
    drawer: Drawer,
    observed: np.ndarray,
    valid: np.ndarray,
    buckets: Sequence[int],
    batch: int,
    draws: int,
) -> int:
    """Return how many compiled calls `draw_missing` will make."""
    listed = items(drawer, covered(valid, observed), buckets, draws)
    return sum(item.calls(batch, draws) for item in listed)


def draw_missing(
    drawer: Drawer,
    score_params: Params,
    z: np.ndarray,
    valid: np.ndarray,
    observed: np.ndarray,
    ids: np.ndarray,
    draw_index: np.ndarray,
    key: jax.Array,
    buckets: Sequence[int],
    batch: int,
    advance: Callable[[], None] = nothing,
) -> tuple[np.ndarray, int]:
    """Complete every row K times.

    Args:
      z: (R, M, T, D) standardised latents; entries of unobserved frames are never read.
      valid: (R, M, T), likewise; of a modality known in part every frame that exists.
      observed: (R, M) bool, or what each latent frame rests on (R, M, T), see `Cover`. Frames in
        part are conditions, and drawn anew.
      ids: (R,) the utterance's index. draw_index: (R, K) the numbers of its draws. With `key` and
        the target they are all the randomness of a draw.
      batch: draws of one target a call.
      advance: called after each compiled call.

    Returns:
      (R, K, M, T, D): z with what is missing filled (zero where unobserved frames do not exist),
      and the NFE that each drawn item took (0 where nothing is missing).

    Raises:
      UserError: a row without any observed modality.
    """
    cover = covered(valid, observed)
    exists, shown, partial = cover.exists, cover.shown.copy(), cover.partial.copy()
    rows, draws = draw_index.shape
    # Unobserved entries may hold anything, NaN too: they are zeroed before they are near a network.
    filled = np.where(shown[..., None], z, 0.0).astype(np.float32)
    filled = np.repeat(filled, draws, axis=0)  # (R K, M, T, D)
    chained = drawer.coupling == "chain"
    # A chain reads its own draws as conditions: p(a, b | c) = p(a | c) p(b | a, c).
    condition = filled if chained or not partial.any() else filled.copy()
    nfe, guidance, placed = 0, np.float32(drawer.guidance), {}
    for item in items(drawer, cover, buckets, draws):
        lines = item.per_call(batch, draws)
        if lines not in placed:
            placed[lines] = on_all_devices(score_params, lines)
        # While nothing of a row has been drawn, its K draws share one encoded condition: one line a
        # row. Later in a chain each draw has a condition of its own: one line a draw.
        each = draws if item.shared else 1
        line = item.rows if item.shared else np.repeat(item.rows, draws)
        known = item.known if item.shared else np.repeat(item.known, draws, axis=0)
        first = np.arange(rows * draws).reshape(rows, draws)[item.rows]  # in `filled`
        source = first[:, 0] if item.shared else first.reshape(-1)
        frames, params, targets = item.frames, placed[lines], item.targets
        wanted = exists & (~shown | partial)
        kinds = known
        if item.gaps:  # a latent that rests on part of its frames has an id of its own
            kinds = known[..., None] + known.dtype.type(z.shape[1]) * partial[line[:, None], known]
            kinds = kinds[..., :frames]

        def call(condition, kinds, target_mask, condition_mask, row, k, p=params, targets=targets):
            keys = drawer.key_of(key, row, k, targets)
            x, count = drawer.draw(
                p,
                targets,
                condition,
                kinds,
                target_mask,
                condition_mask,
                keys,
                drawer.grid,
                guidance,
            )
            # (lines, K, G, T, D), (lines,)
            return np.moveaxis(np.asarray(x), 0, 2), np.full(len(row), count)

        arrays = (
            condition[source[:, None], known][:, :, :frames],
            kinds,
            wanted[line, targets[0], :frames],
            shown[line[:, None], known][:, :, :frames],
            ids[line].astype(np.int32),
            draw_index[item.rows].reshape(-1, each).astype(np.int32),
        )
        x, counts = in_batches(call, arrays, lines, advance)
        nfe = int(counts[-1])
        x = x.reshape(-1, *x.shape[2:])  # (rows K, G, T, D)
        place = (first.reshape(-1)[:, None], targets)
        before = filled[*place][:, :, :frames]
        new = wanted[np.repeat(item.rows, draws)[:, None], targets][..., :frames, None]
        filled[*place, :frames] = np.where(new, x, before)
        if chained:  # what follows in the chain is conditioned on it
            here = (item.rows[:, None], targets)
            shown[here], partial[here] = exists[here], False
    return filled.reshape(rows, draws, *filled.shape[1:]), nfe
