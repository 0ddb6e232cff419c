"""Drawing missing latents: the work list over rows, and the compiled draw it feeds.

Only missing (row, modality) pairs are drawn, in full batches of one target and one number of
conditions, so no condition token is wasted on an absent modality. Parameters, modality ids and
frame masks are data: for M modalities M - 1 programs a length bucket serve every pattern.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmdjax.data.missing import check_observed
from mmdjax.diffusion import sample, time_grid
from mmdjax.diffusion.conditioning import in_sampling
from mmdjax.diffusion.guidance import classifier_free
from mmdjax.diffusion.predictions import scaled
from mmdjax.diffusion.samplers.registry import steps_for
from mmdjax.methods.system import Modules, filled_valid, predict_noise


class Drawer(NamedTuple):
    """A compiled draw of one target, and how missing modalities are coupled.

    Attributes:
      draw: (score_params, target, condition (B, C, T, D), condition_id (B, C), mask (B, T),
        condition_mask (B, C, T), keys (B,), guidance ()) -> x (B, T, D), nfe.
      key_of: (key, ids (B,), draw index (B,), target) -> keys (B,).
      coupling: 'chain' or 'independent'.
      guidance: scale of classifier-free guidance, data for `draw`.
    """

    draw: Callable
    key_of: Callable
    coupling: str
    guidance: float = 1.0


def make_drawer(modules: Modules, diffusion) -> Drawer:
    """Compiles on first use. diffusion: `mmdjax.config.Diffusion`."""
    sde, options = modules.sde, diffusion.options()
    steps = steps_for(diffusion.sampler, diffusion.nfe, **options)
    # Only an optimised grid depends on who uses it.
    aim = {"method": diffusion.sampler, **options} if diffusion.grid == "optimised" else {}
    grid = time_grid(diffusion.grid, sde, steps, **aim)

    @jax.jit
    def draw(score_params, target, condition, condition_id, mask, condition_mask, keys, guidance):
        params = jax.tree.map(lambda a: a[target], score_params)

        def predict(x, t, condition_mask):
            shown = condition
            if diffusion.conditioning != "clean":
                noise_keys = jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys)
                shown = in_sampling(diffusion.conditioning, sde, condition, t, noise_keys)
                shown = scaled(sde, shown, t)[0]
            t = jnp.broadcast_to(t, x.shape[:1])
            given = (shown, condition_id, mask, condition_mask)
            return predict_noise(modules, params, x, t, *given)

        def noise_fn(x, t):
            return predict(x, t, condition_mask)

        def unconditional(x, t):
            return predict(x, t, jnp.zeros_like(condition_mask))

        if diffusion.guidance != 1:
            noise_fn = classifier_free(noise_fn, unconditional, guidance)
        shape = (condition.shape[2], condition.shape[3])
        x, nfe = sample(keys, shape, noise_fn, sde, grid, diffusion.sampler, **options)
        return jnp.where(mask[..., None], x, 0.0), nfe

    @jax.jit
    def key_of(key, ids, draw_index, target):
        def one(row, k):
            fold = jax.random.fold_in
            return fold(fold(fold(key, row), k), target)

        return jax.vmap(one)(ids, draw_index)

    return Drawer(draw, key_of, diffusion.coupling, diffusion.guidance)


def in_batches(function: Callable, arrays: Sequence[np.ndarray], batch: int):
    """function over rows in batches of one shape; the last is filled up with repeated rows.

    Returns:
      What `function` returns, a pytree of arrays, joined over all rows.
    """
    parts = []
    for start in range(0, len(arrays[0]), batch):
        part = [a[start : start + batch] for a in arrays]
        size = len(part[0])
        if size < batch:
            part = [a[np.resize(np.arange(size), batch)] for a in part]
        result = function(*part)
        parts.append(jax.tree.map(lambda a, size=size: np.asarray(a)[:size], result))
    return jax.tree.map(lambda *a: np.concatenate(a), *parts)


def bucket_of(valid: np.ndarray, buckets: Sequence[int]) -> np.ndarray:
    """(N,) index of the shortest bucket that holds every valid frame of valid (N, M, T)."""
    frames = valid.shape[-1]
    last = frames - np.argmax(valid.any(1)[:, ::-1], axis=1)
    return np.searchsorted(np.asarray(buckets), np.where(valid.any((1, 2)), last, 1))


class Item(NamedTuple):
    """One draw call's worth of work: rows that miss `target` and know equally many modalities.

    Attributes:
      target: modality to draw. frames: T of the bucket.
      rows: (R,) indices. known: (R, C) modalities each row is conditioned on.
    """

    target: int
    frames: int
    rows: np.ndarray
    known: np.ndarray


def work_list(observed, bucket, buckets: Sequence[int], coupling: str) -> Iterator[Item]:
    """Every missing (row, modality) pair once; a row's later draws come after its earlier ones.

    With coupling 'chain' a second missing modality is drawn given the first one's draw, which is
    the joint law of both by the chain rule; 'independent' conditions each on the observed only.

    Args:
      observed: (R, M) bool. bucket: (R,) index into `buckets`.
    """
    known = observed.copy()
    for target in range(observed.shape[1]):
        missing = ~observed[:, target]
        count = known.sum(1)
        for size in np.unique(count[missing]):
            for index, frames in enumerate(buckets):
                rows = np.flatnonzero(missing & (count == size) & (bucket == index))
                if rows.size:
                    # The columns of the known ones: a stable sort puts them first, in order.
                    order = np.argsort(~known[rows], axis=1, kind="stable")
                    yield Item(target, frames, rows, order[:, :size].astype(np.int32))
        if coupling == "chain":
            known = known | (np.arange(observed.shape[1]) == target)


def calls(observed, valid, buckets: Sequence[int], batch: int, coupling: str) -> int:
    """How many compiled calls `draw_missing` will make."""
    bucket = bucket_of(filled_valid(valid, observed), buckets)
    return sum(-(-i.rows.size // batch) for i in work_list(observed, bucket, buckets, coupling))


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
    """Completes every row.

    Args:
      z: (R, M, T, D) standardised latents; entries of unobserved modalities are never read.
      valid: (R, M, T), likewise.
      observed: (R, M).
      ids, draw_index: (R,) the utterance's index and the number of its draw; with `key` and the
        target they are all the randomness of a row.
      batch: rows a call.
      advance: told of each call.

    Returns:
      z with missing modalities filled (zero where unobserved frames do not exist), and the NFE
      that each drawn item took (0 where nothing is missing).

    Raises:
      UserError: a row without any observed modality.
    """
    check_observed(observed)
    filled = np.where(observed[..., None, None], z, 0.0).astype(np.float32)
    mask = filled_valid(valid, observed)
    nfe = 0
    for item in work_list(observed, bucket_of(mask, buckets), buckets, drawer.coupling):

        def call(condition, known, target_mask, condition_mask, row, k, target=item.target):
            nonlocal nfe
            keys = drawer.key_of(key, row, k, target)
            arguments = (condition, known, target_mask, condition_mask, keys, drawer.guidance)
            x, count = drawer.draw(score_params, target, *arguments)
            nfe = int(count)
            advance()
            return x

        rows, columns = item.rows, (item.rows[:, None], item.known)
        arrays = (
            filled[columns][:, :, : item.frames],
            item.known,
            mask[rows, item.target, : item.frames],
            mask[columns][:, :, : item.frames],
            ids[rows],
            draw_index[rows],
        )
        filled[rows, item.target, : item.frames] = in_batches(call, arrays, batch)
    return filled, nfe
