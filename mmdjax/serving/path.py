"""The whole path of a request: encode, draw, align, predict, and back to features.

One program serves every pattern of gaps: what is observed is data, every modality is a condition
with a mask, and a modality of which no row of a batch misses anything is not drawn. The same
functions are called (`imputer.py`) and exported (`export.py`).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmdjax.data.pipeline import LARGEST_DEVIATION
from mmdjax.methods.latent.draw import draw_target, rounded, with_dtype
from mmdjax.methods.latent.modules import Modules, Scale, encode_gaps, filled_valid, predict
from mmdjax.networks.encoders import WHOLE, coverage
from mmdjax.serving.feature_decoder import decode
from mmdjax.serving.interval import interval


class Parameters(NamedTuple):
    """Everything that a request is answered with.

    Attributes:
      mean, scale: modality -> (C_m) of features: standardised is (x - mean) scale.
      encoders, score, predictor: networks; predictor has 'fusion', and 'decoder' if there is one.
      latents: of `encoders`. grid: (steps + 1,) times. features: modality -> weights of
        `serving/feature_decoder.py`. intervals: of `interval.calibrate`.
    """

    mean: dict
    scale: dict
    encoders: dict
    latents: Scale
    score: dict
    predictor: dict
    features: dict
    grid: np.ndarray
    intervals: dict


class Path(NamedTuple):
    """What is fixed of the path: modules and `mmdjax.config.Diffusion`; hashable."""

    modules: Modules
    diffusion: object

    @property
    def modalities(self) -> tuple[str, ...]:
        return self.modules.encoders.modalities


def find_lengths(features, said):
    """m -> (B,) int32 frames that exist, 0 where a modality is missing.

    Args:
      features[m]: (B, T_m, C_m), see `encode`.
      said[m]: (B,) int32; -1 where it is to be found: the frames up to the last that is not zero,
        and as many as in any other modality of as many frames, as in training; none where the
        utterance is zero or missing throughout.
    """
    found = {}
    for m, x in features.items():
        some, frames = (x != 0).any(-1), x.shape[1]  # NaN is not 0
        last = frames - jnp.argmax(some[:, ::-1], axis=1)
        nothing = (jnp.isnan(x) | (x == 0)).all((1, 2))
        found[m] = jnp.where(nothing, 0, last).astype(jnp.int32)
    lengths = {}
    for m, x in features.items():
        alike = [
            jnp.where(said[o] < 0, found[o], 0)
            for o in features
            if features[o].shape[1] == x.shape[1]
        ]
        shared = jnp.where(found[m] > 0, jnp.stack(alike).max(0), 0)
        said_here = jnp.where(found[m] > 0, said[m], 0)
        lengths[m] = jnp.where(said[m] < 0, shared, said_here)
    return lengths


def observed_frames(features, lengths):
    """m -> (B, T_m) bool: frames that exist and hold no NaN."""
    return {
        m: (jnp.arange(x.shape[1]) < lengths[m][:, None]) & ~jnp.isnan(x).any(-1)
        for m, x in features.items()
    }


def encode(path: Path, parameters: Parameters, features, lengths):
    """Latents of what is observed.

    Args:
      features[m]: (B, T_m, C_m) float32 as in the file; a frame with NaN is not observed.
      lengths[m]: (B,) int32, of `find_lengths`.

    Returns:
      z (B, M, T, D), standardised; cover (B, M, T), what they rest on (`encoders.coverage`);
      valid (B, M, T), those that exist; number (B,) uint32 of what is observed.
    """
    standardised, valid, observed = {}, {}, observed_frames(features, lengths)
    number = jnp.zeros(next(iter(features.values())).shape[0], jnp.uint32)
    for m in path.modalities:
        x = features[m]
        valid[m] = jnp.arange(x.shape[1]) < lengths[m][:, None]
        shown = observed[m][..., None]
        # -inf is a known defect of openSMILE's files; training reads it as the mean, too.
        x = jnp.where(shown & ~jnp.isneginf(x), x, parameters.mean[m])
        x = (x - parameters.mean[m]) * parameters.scale[m]
        standardised[m] = jnp.clip(x, -LARGEST_DEVIATION, LARGEST_DEVIATION)
        number = mixed(number ^ _number(jnp.where(shown, features[m], 0.0), observed[m]))
    about = (parameters.encoders, parameters.latents, standardised)
    z, cover = encode_gaps(path.modules, *about, valid, observed)
    frames = path.modules.encoders.frames
    exists = [coverage(valid[m], valid[m], frames) > 0 for m in path.modalities]
    return z, cover, jnp.stack(exists, 1), number


def _number(x, observed):
    """(B,) uint32 of every bit of x (B, T_m, C_m) and observed (B, T_m): what an utterance's draws
    are keyed by, so that they depend on neither its place nor its company."""
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32).reshape(x.shape[0], -1)
    return hashed(jnp.concatenate([bits, observed.astype(jnp.uint32)], axis=1)).sum(
        1, dtype=jnp.uint32
    )


def hashed(bits):
    """(B, L) uint32, each of its own value and place alone."""
    place = 2 * jnp.arange(bits.shape[1], dtype=jnp.uint32) + 1
    return mixed(mixed(bits ^ place) * place)


def mixed(h):
    """MurmurHash3's finaliser: every bit of h has a say in every bit."""
    h = (h ^ (h >> 16)) * jnp.uint32(0x85EBCA6B)
    h = (h ^ (h >> 13)) * jnp.uint32(0xC2B2AE35)
    return h ^ (h >> 16)


def complete(path: Path, parameters: Parameters, z, valid, cover, number, seed, draws: int):
    """K completions of every row: the joint law of what is missing given what is observed, or with
    coupling 'independent' each modality's own.

    Args:
      z, cover: of `encode`. valid: (B, M, T) latent frames that exist; read where something of a
        modality is observed.
      number: (B,) uint32. With the seed () uint32, the number of the draw and the modality, they
        are all the randomness of a draw.

    Returns:
      (B K, M, T, D), a row's draws after each other, 0 where nothing is.
    """
    modules, diffusion = with_dtype(path.modules, path.diffusion.dtype), path.diffusion
    score, batch, modalities = (
        rounded(parameters.score, diffusion.dtype),
        number.shape[0],
        z.shape[1],
    )
    guidance = jnp.float32(diffusion.guidance)

    def every(a):
        return jnp.repeat(a, draws, axis=0, total_repeat_length=batch * draws)

    mask = filled_valid(valid, (cover > 0).any(-1))
    shown = mask & (cover > 0)
    partial = shown & (cover < WHOLE)
    wanted = every(mask & ~(shown & ~partial))
    x, known = every(jnp.where(shown[..., None], z, 0.0)), (every(shown), every(partial))
    base = jax.random.key(seed)
    index = jnp.tile(jnp.arange(draws, dtype=jnp.uint32), batch)
    fold = jax.vmap(lambda row, k: jax.random.fold_in(jax.random.fold_in(base, row), k))
    keys = fold(every(number), index)
    given = x, known

    def one(carry, target):
        x, (shown, partial) = carry
        condition, (lit, in_part) = carry if diffusion.coupling == "chain" else given
        own = jax.tree.map(lambda a: a[target], score)
        ids = jnp.broadcast_to(jnp.arange(modalities), (batch * draws, modalities))
        if getattr(modules.score, "gaps", False):
            ids = ids[..., None] + modalities * in_part.astype(ids.dtype)

        def draw(_):
            at = jax.vmap(lambda key: jax.random.fold_in(key, target))(keys)[:, None]
            about = (condition, ids, wanted[:, target], lit)
            return draw_target(modules, diffusion, own, *about, at, parameters.grid, guidance)[0]

        want = wanted[:, target]
        drawn = jax.lax.cond(want.any(), draw, lambda _: x[:, None, target], None)[:, 0]
        x = x.at[:, target].set(jnp.where(want[..., None], drawn, x[:, target]))
        shown = shown.at[:, target].set(shown[:, target] | want)
        partial = partial.at[:, target].set(partial[:, target] & ~want)
        return (x, (shown, partial)), None

    return jax.lax.scan(one, given, jnp.arange(modalities))[0][0]


def answer(
    path: Path, parameters: Parameters, z, cover, valid, number, seed, given, draws: int, level
):
    """What is asked of encoded rows; T may be cut to a prefix that holds every row.

    Args:
      z, cover, valid, number: of `encode`. seed: () uint32. draws: K.
      given: (features, lengths) as `encode` has them, where features are asked for, or None.
      level: of the interval, one of `interval.LEVELS`.

    Returns:
      'draws' (B, K), predictions; 'mean', 'low', 'high', 'spread' (B,) of them, spread NaN for
      K = 1; and what `completed_features` returns.
    """
    made = complete(path, parameters, z, valid, cover, number, seed, draws)
    known = (cover > 0).any(-1)
    mask = jnp.repeat(filled_valid(valid, known), draws, axis=0)
    about = (made, mask, jnp.repeat(known, draws, axis=0))
    each = predict(path.modules, parameters.predictor, parameters.latents, *about)
    each = each.reshape(-1, draws)
    low, high = interval(parameters.intervals, each, known, level)
    spread = deviation(each, 1)
    found = {"draws": each, "mean": each.mean(1), "low": low, "high": high, "spread": spread}
    if given is None:
        return found
    rest = path.modules.encoders.frames - made.shape[2]
    made = jnp.pad(made, ((0, 0), (0, 0), (0, rest), (0, 0)))
    return found | completed_features(path, parameters, made, *given, draws)


def completed_features(path: Path, parameters: Parameters, made, features, lengths, draws: int):
    """Features of `complete`d rows.

    Args:
      made: (B K, M, T, D). features, lengths: see `encode`.

    Returns:
      By modality: 'features' (B, K, T_m, C_m), what was observed as it was given, what was not as
      drawn latents say, 0 after the end; 'exists' (B, T_m) bool, before the end, which a missing
      modality takes from the longest observed one; 'drawn' (B, T_m) bool; 'deviation' (B,), root
      mean square over drawn frames of the standard deviation over draws, in the training data's;
      0 where nothing was drawn, NaN for K = 1.
    """
    observed = observed_frames(features, lengths)
    ends = [lengths[m] / features[m].shape[1] * observed[m].any(1) for m in path.modalities]
    share = jnp.stack(ends).max(0)
    made_of: dict[str, dict] = {"features": {}, "exists": {}, "drawn": {}, "deviation": {}}
    for i, m in enumerate(path.modalities):
        frames, mean, scale = features[m].shape[1], parameters.mean[m], parameters.scale[m]
        end = jnp.where(observed[m].any(1), lengths[m], jnp.ceil(share * frames - 1e-4))
        exists = jnp.arange(frames) < end[:, None]
        drawn = exists & ~observed[m]
        x = decode(parameters.features[m], made[:, i], frames)
        x = x * jnp.where(scale > 0, 1 / jnp.where(scale > 0, scale, 1), 0.0) + mean
        x = x.reshape(-1, draws, *x.shape[1:])
        variance = (deviation(x, 1) * scale) ** 2
        total = jnp.where(drawn, variance.mean(-1), 0.0).sum(1)
        kept = jnp.where((exists & observed[m])[..., None], features[m], 0.0)
        made_of["features"][m] = jnp.where(drawn[:, None, :, None], x, kept[:, None])
        made_of["exists"][m], made_of["drawn"][m] = exists, drawn
        made_of["deviation"][m] = jnp.sqrt(total / jnp.maximum(drawn.sum(1), 1))
    return made_of


def deviation(x, axis: int):
    """Standard deviation over draws, NaN of a single one."""
    if x.shape[axis] == 1:
        return jnp.full(x.shape[:axis] + x.shape[axis + 1 :], jnp.nan)
    return x.std(axis, ddof=1)
