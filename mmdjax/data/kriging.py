"""Kriging: what observed entries of a sequence say of those that are missing.

A sequence x (T, C) of mean 0 is Gaussian with a covariance between all of its entries,

    cov(x_sc, x_td) = (1 - a) (A_cd [s = t] + B_cd exp(-|s - t| / l) + L_cd) + a (W W^T)_sc,td:

noise of a frame, a short memory, and a level of the whole sequence, which depend on the lag alone
(a linear model of coregionalization; Goulard and Voltz 1992), beside principal axes of whole
sequences, which tell one place from another. The conditional mean given any entries solves a linear
system in those entries, by conjugate gradients, row by row; nothing is compiled anew for other
gaps.

A draw of the whole sequence becomes one given the entries that are known by adding the conditional
mean of its errors on them (Matheron's rule; Journel and Huijbregts 1978, VII.A): exact for Gaussian
laws, whatever of the observed entries the draw was given.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

MEMORY = 2.0  # l, frames
LAGS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48)  # that covariances are fitted at
ROWS = 1024  # sequences that a covariance is fitted to, evenly spaced
AXES = 128  # columns of W, at most
SHARES = (0.0, 0.6, 0.95)  # of W W^T, of which validation chooses
STEPS, TOLERANCE = 100, 1e-5  # of conjugate gradients
LEAST = 1e-3  # variance of a frame's noise, of the mean variance: bounds the number of steps


class Field(NamedTuple):
    """A covariance, with its shares multiplied in; all float32.

    Attributes:
      frame, short, level: (C, C) A, B and L.
      axes: (T, C, R) W; R may be 0.
    """

    frame: jax.Array
    short: jax.Array
    level: jax.Array
    axes: jax.Array


def product(field: Field, x: jax.Array) -> jax.Array:
    """Return the covariance times x (B, T, C)."""
    time = np.arange(x.shape[1])
    decay = np.exp(-np.abs(time[:, None] - time) / MEMORY).astype(np.float32)
    result = x @ field.frame + decay @ (x @ field.short)
    result += x.sum(1, keepdims=True) @ field.level
    if not field.axes.shape[-1]:
        return result
    along = jnp.einsum("btc,tcr->br", x, field.axes)
    return result + jnp.einsum("br,tcr->btc", along, field.axes)


def conditional_mean(field: Field, x: jax.Array, known: jax.Array) -> jax.Array:
    """Return the mean of whole sequences given some of their entries, (B, T, C).

    It is x, up to the tolerance of conjugate gradients, where x is known.

    Args:
      x: (B, T, C) of mean 0; entries that are not known are not read.
      known: (B, T, C) or (B, T, 1) bool.
    """
    known = jnp.broadcast_to(known, x.shape)

    def inner(a, b):
        return jnp.einsum("btc,btc->b", a, b)[:, None, None]

    # Whitening the noise of frames makes the rest of the system close to one of few eigenvalues.
    whitening = jnp.linalg.inv(field.frame)
    precondition = lambda r: jnp.where(known, r @ whitening, 0.0)  # noqa: E731
    start = jnp.where(known, x, 0.0)
    small = TOLERANCE**2 * inner(start, start)

    def unfinished(state):
        _, r, *_, step = state
        return (step < STEPS) & (inner(r, r) > small).any()

    def step(state):
        y, r, p, size, count = state
        # A row that is done stays as it is: its answer does not depend on its company.
        busy = inner(r, r) > small
        image = jnp.where(known, product(field, p), 0.0)
        along = inner(p, image)
        length = jnp.where(busy & (along > 0), size / jnp.where(along > 0, along, 1.0), 0.0)
        y, r = y + length * p, r - length * image
        z = precondition(r)
        new = inner(r, z)
        p = jnp.where(busy, z + new / jnp.where(size > 0, size, 1.0) * p, p)
        return y, r, p, jnp.where(busy, new, size), count + 1

    first = precondition(start)
    state = jnp.zeros_like(start), start, first, inner(start, first), 0
    weights = jax.lax.while_loop(unfinished, step, state)[0]
    return product(field, weights)


def corrected(field: Field, drawn: jax.Array, x: jax.Array, known: jax.Array) -> jax.Array:
    """Return draws (B, T, C) of whole sequences as draws given known entries of x.

    Args:
      field: the covariance of x - drawn. x, known: see `conditional_mean`.
    """
    known = jnp.broadcast_to(known, x.shape)
    error = jnp.where(known, x - drawn, 0.0)
    return drawn + conditional_mean(field, error, known)


def fit(x: np.ndarray, known: np.ndarray, shown: np.ndarray | None = None) -> Field:
    """Return the covariance of sequences.

    Args:
      x: (N, T, C) of mean 0; sequences that depend on each other stand together.
      known: (N, T, C) or (N, T, 1) bool, entries that exist.
      shown: likewise, those of them from which the rest is filled. The share of W W^T is taken by
        which one half of the sequences fills the other best; without `shown` it is 0.
    """
    some = np.unique(np.linspace(0, len(x) - 1, min(len(x), ROWS)).astype(int))
    known = known[some]
    x = np.where(known, x[some], 0.0).astype(np.float32)
    half = len(x) // 2
    if shown is None or not half:
        return _with_share(*_parts(x, known, 0), 0.0)
    shown = shown[some]
    parts, rest = _parts(x[:half], known[:half], AXES), slice(half, None)
    wanted = known[rest] & ~shown[rest]

    def error(share: float) -> float:
        field = _with_share(*parts, share)
        filled = np.asarray(jax.jit(conditional_mean)(field, x[rest], shown[rest]))
        return float(np.where(wanted, (filled - x[rest]) ** 2, 0.0).sum())

    share = min(SHARES, key=error)
    return _with_share(*_parts(x, known, AXES if share else 0), share)


def _parts(x: np.ndarray, known: np.ndarray, axes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (A, B, L) and W."""
    return _shrunk(_of_lags(x, known), len(x)), _axes(x, known, axes)


def _with_share(lagged: np.ndarray, axes: np.ndarray, share: float) -> Field:
    axes = np.sqrt(share) * axes if share else axes[..., :0]  # axes take time in every product
    return Field(*(part.astype(np.float32) for part in (*((1 - share) * lagged), axes)))


def _of_lags(x: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return A, B and L (3, C, C) that fit covariances at `LAGS` best, not negative."""
    lags = [lag for lag in LAGS if lag < x.shape[1]]
    frames, whole = x.shape[1], known.shape[-1] == 1
    counts, sums = [], []
    for lag in lags:
        before, after = slice(0, frames - lag), slice(lag, frames)
        a, b = (x[:, part].reshape(-1, x.shape[-1]) for part in (before, after))
        here, there = (known[:, part].reshape(-1, known.shape[-1]) for part in (before, after))
        total = a.T @ b
        count = here.astype(np.float32).T @ there.astype(np.float32)
        sums.append((total + total.T) / 2)
        counts.append((count + count.T) / 2)
    count = np.stack(counts).astype(np.float64)
    covariance = np.stack(sums) / np.maximum(count, 1)
    terms = np.stack([np.equal(lags, 0), np.exp(-np.array(lags) / MEMORY), np.ones(len(lags))], 1)
    terms = terms[:, :1] if len(lags) == 1 else terms[:, [0, 2]] if len(lags) == 2 else terms
    weight = count if whole else count.mean((1, 2), keepdims=True)
    weight = np.sqrt(weight / max(weight.sum(), 1))
    flat = (weight * covariance).reshape(len(lags), -1)
    found = np.linalg.lstsq(weight[:, 0] * terms, flat, rcond=None)[0]
    found = found.reshape(-1, *covariance.shape[1:])
    result = np.zeros((3, *covariance.shape[1:]))
    result[{1: [0], 2: [0, 2], 3: [0, 1, 2]}[len(found)]] = found
    return np.stack([_not_negative(part) for part in result])


def _not_negative(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return (vectors * values.clip(0)) @ vectors.T


def _shrunk(parts: np.ndarray, rows: int) -> np.ndarray:
    """Return covariances (3, C, C) shrunk to multiples of the identity, more where sequences are
    few for their channels, and noise that is nowhere 0."""
    channels = parts.shape[-1]
    share, identity = channels / (channels + rows), np.eye(channels)
    size = parts.trace(axis1=1, axis2=2)[:, None, None] / channels
    parts = (1 - share) * parts + share * size * identity
    parts[0] += LEAST * max(size.sum(), 1e-6) * identity
    return parts


def _axes(x: np.ndarray, known: np.ndarray, most: int) -> np.ndarray:
    """Return W (T, C, R): principal axes of whole sequences, as long as their deviations."""
    from sklearn.utils.extmath import randomized_svd  # not of a served model

    if not most:
        return np.zeros((*x.shape[1:], 0), np.float32)
    share = known.mean(0).clip(1 / len(x))  # entries are there as often as that
    flat = (x / np.sqrt(share)).reshape(len(x), -1)
    count = min(most, *flat.shape)
    _, size, axes = randomized_svd(flat, count, random_state=0)
    return (axes.T * size / np.sqrt(len(x))).reshape(*x.shape[1:], count).astype(np.float32)
