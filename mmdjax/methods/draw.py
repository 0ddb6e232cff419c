"""Drawing missing latents: the work list over rows, and the compiled draw it feeds.

Only missing (row, modality) pairs are drawn, in full batches of one target and one set of
conditions, so no condition token is wasted on an absent modality. Parameters, modality ids and
frame masks are data: for M modalities M - 1 programs a length bucket serve every pattern.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmdjax.diffusion import sample, time_grid
from mmdjax.methods.system import Modules, filled_valid, predict_noise


class Drawer(NamedTuple):
    """A compiled draw of one target, and how missing modalities are coupled.

    Attributes:
      draw: (score_params, target, z (B, C, T, D), ids (C,), mask (B, T), condition_mask (B, C, T),
        keys (B,)) -> x (B, T, D), nfe.
      key_of: (key, ids (B,), draw index (B,), target) -> keys (B,).
      coupling: 'chain' or 'independent'.
    """

    draw: Callable
    key_of: Callable
    coupling: str


def make_drawer(modules: Modules, diffusion) -> Drawer:
    """Compiles on first use. diffusion: `mmdjax.config.Diffusion`."""
    grid = time_grid(diffusion.grid, modules.sde, diffusion.steps)

    @jax.jit
    def draw(score_params, target, condition, condition_id, mask, condition_mask, keys):
        params = jax.tree.map(lambda a: a[target], score_params)

        def noise_fn(x, t):
            t = jnp.full(x.shape[0], t)
            conditions = (condition, condition_id, mask, condition_mask)
            return predict_noise(modules, params, x, t, *conditions)

        shape = (condition.shape[2], condition.shape[3])
        x, nfe = sample(keys, shape, noise_fn, modules.sde, grid, diffusion.sampler)
        return jnp.where(mask[..., None], x, 0.0), nfe

    @jax.jit
    def key_of(key, ids, draw_index, target):
        def one(row, k):
            fold = jax.random.fold_in
            return fold(fold(fold(key, row), k), target)

        return jax.vmap(one)(ids, draw_index)

    return Drawer(draw, key_of, diffusion.coupling)


def in_batches(function: Callable, arrays: Sequence[np.ndarray], batch: int) -> np.ndarray:
    """function over rows in batches of one shape; the last is filled up with repeated rows."""
    parts = []
    for start in range(0, len(arrays[0]), batch):
        part = [a[start : start + batch] for a in arrays]
        size = len(part[0])
        if size < batch:
            part = [a[np.resize(np.arange(size), batch)] for a in part]
        parts.append(np.asarray(function(*part))[:size])
    return np.concatenate(parts)


def bucket_of(valid: np.ndarray, buckets: Sequence[int]) -> np.ndarray:
    """(N,) index of the shortest bucket that holds every valid frame of valid (N, M, T)."""
    frames = valid.shape[-1]
    last = frames - np.argmax(valid.any(1)[:, ::-1], axis=1)
    return np.searchsorted(np.asarray(buckets), np.where(valid.any((1, 2)), last, 1))


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
    advance: Callable[[int], None] = lambda calls: None,
) -> tuple[np.ndarray, int]:
    """Completes every row.

    With coupling 'chain' a second missing modality is drawn given the first one's draw, which is
    the joint law of both by the chain rule; 'independent' conditions each on the observed only.

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
      that each drawn item took.
    """
    filled = np.where(observed[..., None, None], z, 0.0).astype(np.float32)
    frames_mask = filled_valid(valid, observed)
    bucket, nfe = bucket_of(frames_mask, buckets), 0
    pattern = observed @ (1 << np.arange(observed.shape[1]))
    for code in np.unique(pattern):
        kept = [m for m in range(observed.shape[1]) if code >> m & 1]
        missing = [m for m in range(observed.shape[1]) if m not in kept]
        for index, frames in enumerate(buckets):
            rows = np.flatnonzero((pattern == code) & (bucket == index))
            known = list(kept)
            for target in missing if rows.size else ():
                identity = np.array(known, np.int32)

                def call(condition, mask, condition_mask, row, k, target=target, ids_=identity):
                    nonlocal nfe
                    keys = drawer.key_of(key, row, k, target)
                    x, count = drawer.draw(
                        score_params, target, condition, ids_, mask, condition_mask, keys
                    )
                    nfe = int(count)
                    advance(1)
                    return x

                arrays = (
                    filled[rows][:, known, :frames],
                    frames_mask[rows, target, :frames],
                    frames_mask[rows][:, known, :frames],
                    ids[rows],
                    draw_index[rows],
                )
                filled[rows, target, :frames] = in_batches(call, arrays, batch)
                if drawer.coupling == "chain":
                    known.append(target)
    return filled, nfe
