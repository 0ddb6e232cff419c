"""Embeddings of time and of position."""

import jax
import jax.numpy as jnp
import numpy as np


def fourier_frequencies(features: int, scale: float, seed: int = 0) -> np.ndarray:
    """The fixed Gaussian matrix W of Gaussian Fourier features, (features // 2,)."""
    return np.random.default_rng(seed).normal(0.0, scale, features // 2).astype(np.float32)


def fourier_features(t: jax.Array, frequencies: np.ndarray) -> jax.Array:
    """[sin(2 pi W t), cos(2 pi W t)], thesis eq. 5.16: t (B,) -> (B, features)."""
    angle = 2 * jnp.pi * t[:, None] * frequencies
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


def sinusoidal_positions(frames: int, width: int) -> np.ndarray:
    """Fixed positions of Vaswani et al. (2017), (frames, width)."""
    position = np.arange(frames)[:, None]
    rate = np.exp(-np.log(1e4) * np.arange(0, width, 2) / width)
    table = np.zeros((frames, width), np.float32)
    table[:, 0::2] = np.sin(position * rate)
    table[:, 1::2] = np.cos(position * rate[: width // 2])
    return table


def sinusoids(position: jax.Array, width: int) -> jax.Array:
    """The same at positions that are data: (B, N) -> (B, N, width)."""
    rate = 10_000.0 ** (-jnp.arange(0, width, 2) / width)
    angle = position[..., None] * rate
    return jnp.stack([jnp.sin(angle), jnp.cos(angle)], -1).reshape(*position.shape, -1)[..., :width]
