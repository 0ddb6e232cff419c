"""The work list: which rows are drawn when, in full batches of one shape.

Only missing (row, modality) pairs are drawn, bucketed by target, number of conditions and length,
so no condition token is wasted on an absent modality or on padding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from mmdjax.data.missing import check_observed
from mmdjax.devices import on_all_devices
from mmdjax.methods.draw import Drawer
from mmdjax.methods.system import filled_valid
from mmdjax.processes import dealt


def in_batches(
    function: Callable,
    arrays: Sequence[np.ndarray],
    batch: int,
    advance: Callable[[], None] = lambda: None,
):
    """function over rows in batches of one shape; the last is filled up with repeated rows.

    Several processes share the batches; all of them get the whole result.

    Args:
      advance: told of each batch.

    Returns:
      What `function` returns, a pytree of arrays, joined over all rows.
    """
    rows, parts = len(arrays[0]), []

    def call(index: int):
        part = [a[index * batch : (index + 1) * batch] for a in arrays]
        if len(part[0]) < batch:
            part = [a[np.resize(np.arange(len(a)), batch)] for a in part]
        return function(*part)

    for index, result in enumerate(dealt(-(-rows // batch), call)):
        size = min(batch, rows - index * batch)
        parts.append(jax.tree.map(lambda a, size=size: np.asarray(a)[:size], result))
        advance()
    return jax.tree.map(lambda *a: np.concatenate(a), *parts)


def bucket_of(valid: np.ndarray, buckets: Sequence[int]) -> np.ndarray:
    """(N,) index of the shortest bucket that holds every valid frame of valid (N, M, T)."""
    frames = valid.shape[-1]
    last = frames - np.argmax(valid.any(1)[:, ::-1], axis=1)
    return np.searchsorted(np.asarray(buckets), np.where(valid.any((1, 2)), last, 1))


class Item(NamedTuple):
    """Rows that miss `targets`, know equally many modalities, and have one length.

    Attributes:
      targets: (G,) modalities to draw. frames: T of the bucket.
      rows: (R,) indices. known: (R, C) modalities each row is conditioned on.
      shared: all of these are observed, so that the draws of a row have one condition.
    """

    targets: np.ndarray
    frames: int
    rows: np.ndarray
    known: np.ndarray
    shared: bool

    def per_call(self, batch: int, draws: int) -> int:
        """Rows, or rows times draws, of a call that draws `batch` times a target at most."""
        return max(1, batch // draws) if self.shared else batch

    def calls(self, batch: int, draws: int) -> int:
        rows = len(self.rows) * (1 if self.shared else draws)
        return -(-rows // self.per_call(batch, draws))


def work_list(
    observed, bucket, buckets: Sequence[int], coupling: str, together: bool = False, draws: int = 1
) -> Iterator[Item]:
    """Every missing (row, modality) pair once; a row's later draws come after its earlier ones.

    With coupling 'chain' a second missing modality is drawn given the first one's draw, which is
    the joint law of both by the chain rule; 'independent' conditions each on the observed only.

    Args:
      observed: (R, M) bool. bucket: (R,) index into `buckets`.
      together: 'independent' targets of a row in one item.
      draws: K; with one draw a row there is nothing to share, and batches are not split over it.
    """
    known, modalities = observed.copy(), observed.shape[1]
    groups = [(np.array([m]), ~observed[:, m]) for m in range(modalities)]
    if together:
        missing = [p for p in np.unique(~observed, axis=0) if p.any()]
        groups = [(np.flatnonzero(p), (~observed == p).all(1)) for p in missing]
    for targets, rows_of_group in groups:
        count, own = known.sum(1), (known == observed).all(1) | (draws == 1)
        keys = np.stack([count, own, bucket], axis=1)
        for size, shared, index in np.unique(keys[rows_of_group], axis=0):
            rows = np.flatnonzero(rows_of_group & (keys == (size, shared, index)).all(1))
            # The columns of the known ones: a stable sort puts them first, in order.
            order = np.argsort(~known[rows], axis=1, kind="stable")[:, :size].astype(np.int32)
            yield Item(targets.astype(np.int32), buckets[index], rows, order, bool(shared))
        if coupling == "chain":
            known[:, targets] = True


def items(drawer: Drawer, observed, valid, buckets: Sequence[int], draws: int) -> list[Item]:
    """The work list of a drawer; `valid` (R, M, T) as `filled_valid` gives it."""
    settings = (buckets, drawer.coupling, drawer.together, draws)
    return list(work_list(observed, bucket_of(valid, buckets), *settings))


def calls(drawer: Drawer, observed, valid, buckets: Sequence[int], batch: int, draws: int) -> int:
    """How many compiled calls `draw_missing` will make."""
    listed = items(drawer, observed, filled_valid(valid, observed), buckets, draws)
    return sum(item.calls(batch, draws) for item in listed)


def draw_missing(
    drawer: Drawer,
    score_params,
    z: np.ndarray,
    valid: np.ndarray,
    observed: np.ndarray,
    ids: np.ndarray,
    draw_index: np.ndarray,
    key,
    buckets: Sequence[int],
    batch: int,
    advance: Callable[[], None] = lambda: None,
) -> tuple[np.ndarray, int]:
    """Completes every row K times.

    Args:
      z: (R, M, T, D) standardised latents; entries of unobserved modalities are never read.
      valid: (R, M, T), likewise.
      observed: (R, M).
      ids: (R,) the utterance's index. draw_index: (R, K) the numbers of its draws. With `key` and
        the target they are all the randomness of a draw.
      batch: draws of one target a call.
      advance: told of each call.

    Returns:
      (R, K, M, T, D): z with missing modalities filled (zero where unobserved frames do not exist),
      and the NFE that each drawn item took (0 where nothing is missing).

    Raises:
      UserError: a row without any observed modality.
    """
    check_observed(observed)
    rows, draws = draw_index.shape
    filled = np.where(observed[..., None, None], z, 0.0).astype(np.float32)
    filled = np.repeat(filled, draws, axis=0)  # (R K, M, T, D)
    mask = filled_valid(valid, observed)
    nfe, guidance, placed = 0, np.float32(drawer.guidance), {}
    for item in items(drawer, observed, mask, buckets, draws):
        lines = item.per_call(batch, draws)
        if lines not in placed:
            placed[lines] = on_all_devices(score_params, lines)
        # One line for each row with all its draws, or one for each draw.
        each = draws if item.shared else 1
        line = item.rows if item.shared else np.repeat(item.rows, draws)
        known = item.known if item.shared else np.repeat(item.known, draws, axis=0)
        first = np.arange(rows * draws).reshape(rows, draws)[item.rows]  # in `filled`
        source = first[:, 0] if item.shared else first.reshape(-1)

        params, targets = placed[lines], item.targets

        def call(condition, known, target_mask, condition_mask, row, k, p=params, targets=targets):
            keys = drawer.key_of(key, row, k, targets)
            arguments = (condition, known, target_mask, condition_mask, keys)
            x, count = drawer.draw(p, targets, *arguments, drawer.grid, guidance)
            # (lines, K, G, T, D), (lines,)
            return np.moveaxis(np.asarray(x), 0, 2), np.full(len(row), count)

        arrays = (
            filled[source[:, None], known][:, :, : item.frames],
            known,
            mask[line, item.targets[0], : item.frames],
            mask[line[:, None], known][:, :, : item.frames],
            ids[line].astype(np.int32),
            draw_index[item.rows].reshape(-1, each).astype(np.int32),
        )
        x, counts = in_batches(call, arrays, lines, advance)
        nfe = int(counts[-1])
        x = x.reshape(-1, *x.shape[2:])
        filled[first.reshape(-1)[:, None], item.targets, : item.frames] = x
    return filled.reshape(rows, draws, *filled.shape[1:]), nfe
