"""Shallow encoders: from each modality's own frames and channels to a common latent shape."""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmdjax.networks.dropout import Dropout

KERNEL = 3
WHOLE = 2  # of `coverage`
SMALLEST_SHARE = 1e-6  # of a frame, for rounding


def resampling_matrix(source: int, target: int) -> np.ndarray:
    """(target, source) weights that put `source` frames on a time axis of `target` frames.

    Longer sequences are averaged over the part of the axis that a target frame covers, shorter
    ones are interpolated linearly between frame centres. Rows sum to one.
    """
    if source >= target:
        edges = np.arange(target + 1) * source / target
        frame = np.arange(source)
        overlap = np.minimum(edges[1:, None], frame + 1) - np.maximum(edges[:-1, None], frame)
        weights = np.clip(overlap, 0, None)
    else:
        centre = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
        weights = np.clip(1 - np.abs(centre[:, None] - np.arange(source)), 0, None)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def resample(x: jax.Array, valid: jax.Array, frames: int) -> tuple[jax.Array, jax.Array]:
    """Resamples x (B, T_m, C) to (B, frames, C) over valid frames only; valid likewise."""
    if x.shape[1] == frames:
        return jnp.where(valid[..., None], x, 0.0), valid
    weights = resampling_matrix(x.shape[1], frames)
    share = valid.astype(x.dtype) @ weights.T
    total = weights @ jnp.where(valid[..., None], x, 0.0)
    covered = share > SMALLEST_SHARE
    mean = total / jnp.maximum(share, SMALLEST_SHARE)[..., None]
    return jnp.where(covered[..., None], mean, 0.0), covered


def noisy_features(
    features: Mapping[str, jax.Array],
    valid: Mapping[str, jax.Array],
    noise: Sequence[float],
    key: jax.Array,
    frames: int,
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """Return features with Gaussian noise on them, and their valid frames, as encoders take both.

    Encoders of one latent frame read the mean over an utterance's n frames alone. It is returned in
    their place with one normal of deviation noise / sqrt(n): the law of the mean of noisy frames.

    Args:
      features[m]: (B, T_m, C_m). valid[m]: (B, T_m) bool. noise: deviation of each modality's.
      frames: of the latents.
    """
    made, there = {}, {}
    for i, (m, x) in enumerate(features.items()):
        mask, deviation = valid[m], noise[i]
        if frames == 1:
            deviation = deviation / jnp.sqrt(jnp.maximum(mask.sum(1), 1))[:, None, None]
            x, mask = resample(x, mask, 1)
        made[m] = x + deviation * jax.random.normal(jax.random.fold_in(key, i), x.shape)
        there[m] = mask
    return made, there


def coverage(valid: jax.Array, observed: jax.Array, frames: int) -> jax.Array:
    """(B, frames) int8: what a latent frame of `ModalityEncoder` rests on: `WHOLE` where every
    frame under it that exists is observed, 1 where some are, 0 where none is.

    Args:
      valid: (B, T_m) bool, the frame exists. observed: (B, T_m) bool.
    """
    weights = resampling_matrix(valid.shape[1], frames + KERNEL - 1).T
    exists, seen = (a.astype(jnp.float32) @ weights for a in (valid, valid & observed))
    some, lacks = (_any_under(a > SMALLEST_SHARE) for a in (seen, exists - seen))
    return jnp.where(some, jnp.where(lacks, 1, WHOLE), 0).astype(jnp.int8)


def _any_under(frames: jax.Array) -> jax.Array:
    """(B, T + 2) bool -> (B, T), whether any of the three frames under a latent one is True."""
    return frames[:, :-2] | frames[:, 1:-1] | frames[:, 2:]


class ModalityEncoder(nn.Module):
    """One Conv1d of kernel 3 without padding (thesis 5.2.5): linear, so Gaussians stay Gaussian.

    A sequence of `frames` + 2 frames (50 for the field's files) is convolved as it is; any other
    length is resampled to that first. A latent frame is valid when any frame under it is.

    Where there is one frame, of the features or of the latents, a matrix takes the convolution's
    place, of the vector or of the mean over frames. It is orthogonal at the start: what is in the
    mean stays in the latent, in directions of equal size.
    """

    frames: int
    channels: int
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self, x: jax.Array, valid: jax.Array, deterministic: bool = True
    ) -> tuple[jax.Array, jax.Array]:
        """x (B, T_m, C_m), valid (B, T_m) -> (B, frames, channels), (B, frames)."""
        if 1 in (x.shape[1], self.frames):
            x, valid = resample(x, valid, 1)
            x = Dropout(self.dropout)(x, deterministic=deterministic)
            init = nn.initializers.orthogonal()
            y = nn.Dense(self.channels, use_bias=False, kernel_init=init)(x)
            y = jnp.where(valid[..., None], y, 0.0)
            return jnp.repeat(y, self.frames, 1), jnp.repeat(valid, self.frames, 1)
        x, valid = resample(x, valid, self.frames + KERNEL - 1)
        x = Dropout(self.dropout)(x, deterministic=deterministic)
        y = nn.Conv(self.channels, (KERNEL,), padding="VALID", use_bias=False)(x)
        covered = _any_under(valid)
        return jnp.where(covered[..., None], y, 0.0), covered


class Reconstruction(nn.Module):
    """The error of features that a linear map makes of latents, frame by frame."""

    modalities: tuple[str, ...]

    @nn.compact
    def __call__(self, x: jax.Array, features: Mapping, valid: Mapping) -> jax.Array:
        """x (B, M, T, D); features, valid: as of `Encoders` -> (B,), the mean square over channels,
        frames that exist and modalities that are there."""
        total, count = jnp.zeros(len(x)), jnp.zeros(len(x))
        for i, name in enumerate(self.modalities):
            target, known = resample(features[name], valid[name], x.shape[2])
            made = nn.Dense(target.shape[-1], name=name)(x[:, i])
            square = jnp.where(known, ((made - target) ** 2).mean(-1), 0.0).sum(1)
            total += square / jnp.maximum(known.sum(1), 1)
            count += known.any(1)
        return total / jnp.maximum(count, 1)


class UnimodalHeads(nn.Module):
    """A linear prediction from each modality alone, its latents averaged over time."""

    modalities: tuple[str, ...]
    outputs: int

    @nn.compact
    def __call__(self, x: jax.Array, valid: jax.Array) -> jax.Array:
        """x (B, M, T, D), valid (B, M, T) -> (M, B, outputs)."""
        total = jnp.where(valid[..., None], x, 0.0).sum(2)
        mean = total / jnp.maximum(valid.sum(2), 1)[..., None]
        heads = [nn.Dense(self.outputs, name=name) for name in self.modalities]
        return jnp.stack([head(mean[:, i]) for i, head in enumerate(heads)])


class Encoders(nn.Module):
    """All modalities side by side.

    Attributes:
      modalities: names, in the order of the modality axis.
      frames, channels: T and D of the latents.
      dropout: on the input features, by modality.
    """

    modalities: tuple[str, ...]
    frames: int = 48
    channels: int = 32
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self, features: Mapping, valid: Mapping, deterministic: bool = True
    ) -> tuple[jax.Array, jax.Array]:
        """features[m] (B, T_m, C_m), valid[m] (B, T_m) -> x (B, M, T, D), valid (B, M, T)."""
        pairs = [
            ModalityEncoder(self.frames, self.channels, self.dropout, name=name)(
                features[name], valid[name], deterministic
            )
            for name in self.modalities
        ]
        return jnp.stack([x for x, _ in pairs], 1), jnp.stack([v for _, v in pairs], 1)
