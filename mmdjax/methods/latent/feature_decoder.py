"""From latents back to features: the linear regression of features on latents, and its residuals.

The encoders are linear, so this is their best linear inverse: encoding what it returns gives the
latents again, up to the ridge. What the encoders do not keep is noise around it, Gaussian with the
covariance of the validation split's residuals and independent between frames; it is part of a draw
where it brings draws nearer to the truth in distribution. The ridge is chosen by what comes back of
draws, not of true latents: a small one enlarges their errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmdjax.metrics import energy_distance
from mmdjax.networks.encoders import KERNEL, resampling_matrix

TAPS = (-2, -1, 0, 1, 2)  # latent frames around a frame
RIDGES = (1e-4, 1e-3, 1e-2, 3e-2, 1e-1, 3e-1)  # of the mean square of the inputs
MOST_ROWS = 512  # that draws are compared with: the energy distance takes the square of it
LARGEST_WHOLE = 2**23  # weights of a regression of whole utterances


class FeatureDecoder(NamedTuple):
    """weights: (5 D + 1, C_m) of the latent frames around a frame, a constant last; or, where all
    utterances are equally long, (T D + 1, T_m, C_m) of whole ones.

    Attributes:
      residual: (C_m, C_m) factor L of the residuals' covariance L L^T in a frame.
      noise: the same, or 0 where draws of what is missing as a whole are nearer to the truth
        without it.
      explained: share of the validation split's variance that true latents give back.
    """

    weights: np.ndarray
    noise: np.ndarray
    residual: np.ndarray
    explained: float


def around(z: Any, frames: int) -> Any:
    """(B, T_m, 5 D + 1) what a frame is regressed on, from latents (B, T, D)."""
    xp = np if isinstance(z, np.ndarray) else jnp
    edge = (KERNEL - 1) // 2  # the time axis on which the encoders convolve
    padded = xp.pad(z, ((0, 0), (edge, edge), (0, 0)), mode="edge")
    index = np.arange(padded.shape[1])
    weights = resampling_matrix(len(index), frames)
    taken = [weights @ padded[:, np.clip(index + tap, 0, index[-1])] for tap in TAPS]
    return xp.concatenate([*taken, xp.ones((*taken[0].shape[:2], 1), z.dtype)], axis=-1)


def decode(weights: Any, z: Any, frames: int) -> Any:
    """(B, T_m, C_m) standardised features of latents z (B, T, D)."""
    if weights.ndim == 2:
        return around(z, frames) @ weights
    flat = z.reshape(z.shape[0], z.shape[1] * z.shape[2])
    xp = np if isinstance(z, np.ndarray) else jnp
    return xp.tensordot(flat, weights[:-1], 1) + weights[-1]


def residuals(
    keys: jax.Array, factor: Mapping[str, jax.Array], part: jax.Array, frames: int
) -> jax.Array:
    """(R, frames, C_m) what latents do not say of the features of draws.

    Args:
      keys: (R,), of the draws. factor: 'noise' and 'residual', see `FeatureDecoder`; the latter,
        where there is one, of rows that have a part of the modality.
      part: (R,) bool, those rows.
    """
    noise = factor["noise"]
    normal = jax.vmap(lambda key: jax.random.normal(key, (frames, len(noise))))(keys)
    if "residual" not in factor:
        return normal @ noise.T
    return jnp.where(part[:, None, None], normal @ factor["residual"].T, normal @ noise.T)


def fit(
    z: np.ndarray,
    x: np.ndarray,
    valid: np.ndarray,
    z_valid: np.ndarray,
    x_valid: np.ndarray,
    valid_valid: np.ndarray,
    drawn: np.ndarray,
) -> FeatureDecoder:
    """The regression of the training split that makes, of the validation split's draws, features
    nearest in distribution to the true ones (energy distance).

    Args:
      z: (N, T, D) latents. x: (N, T_m, C_m) standardised features. valid: (N, T_m) bool. The other
        three are the validation split's. drawn: its draws, one each, as z_valid.
    """
    frames, channels = x.shape[1:]
    forms = [_frames(z, valid, frames)]
    whole = z[0].size + 1
    if valid.all() and valid_valid.all() and whole * frames * channels <= LARGEST_WHOLE:
        forms.append(_utterances(z))
    target = x_valid[valid_valid]
    spread = max(float(((target - target.mean(0)) ** 2).mean()), 1e-12)
    some = slice(MOST_ROWS)

    def flat(x):
        return np.where(valid_valid[some, :, None], x, 0.0).reshape(len(x), -1)

    truth, best, nearest = flat(x_valid[some]), None, np.inf
    normal = np.random.default_rng(0).standard_normal((len(truth), *x.shape[1:]))
    for inputs, rows in forms:
        outputs = x[valid] if rows == "frames" else x.reshape(len(x), -1)
        square, cross = inputs.T @ inputs, inputs.T @ outputs
        size = np.trace(square) / len(square)
        for ridge in RIDGES:
            penalty = ridge * size * np.eye(len(square))
            penalty[-1, -1] = 0
            weights = np.linalg.solve(square + penalty, cross).astype(np.float32)
            if rows == "utterances":
                weights = weights.reshape(-1, frames, channels)
            left = target - decode(weights, z_valid, frames)[valid_valid]
            made, explained = decode(weights, drawn[some], frames), 1 - (left**2).mean() / spread
            factor = _factor(left).astype(np.float32)
            for noise in (factor, np.zeros_like(factor)):
                distance = energy_distance(flat(made + normal @ noise.T), truth)
                if distance < nearest:
                    nearest = distance
                    best = FeatureDecoder(weights, noise, factor, float(explained))
    return best


def _factor(left: np.ndarray) -> np.ndarray:
    """Return L of the covariance L L^T of residuals (R, C), shrunk where they are few."""
    from sklearn.covariance import ledoit_wolf  # not of a served model

    covariance, _ = ledoit_wolf(left.astype(np.float64))
    return np.linalg.cholesky(covariance + 1e-8 * np.eye(len(covariance)))


def _frames(z: np.ndarray, valid: np.ndarray, frames: int) -> tuple[np.ndarray, str]:
    return around(z, frames)[valid].astype(np.float64), "frames"


def _utterances(z: np.ndarray) -> tuple[np.ndarray, str]:
    flat = z.reshape(len(z), -1)
    return np.concatenate([flat, np.ones((len(z), 1))], axis=1).astype(np.float64), "utterances"
