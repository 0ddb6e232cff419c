"""How a model in use reads what it is given: frames that exist, known numbers, and their scale.

Everything here is a part of `Route.encode` and `Route.answer` (`methods/served.py`) that all
methods share.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from mmdjax.data import entries, kriging
from mmdjax.data.dataset import LARGEST_DEVIATION, Dataset


def find_lengths(
    features: Mapping[str, jax.Array], said: Mapping[str, jax.Array]
) -> dict[str, jax.Array]:
    """Return modality -> (R,) int32, frames that exist, 0 where a modality is missing.

    Args:
      features: modality -> (R, T_m, C_m), NaN where not observed.
      said: modality -> (R,) int32; -1 where it is to be found: the frames up to the last that is
        not zero, and as many as in any other modality of as many frames, as in training; none where
        the utterance is zero or missing throughout.
    """
    last_of = {}
    for m, x in features.items():
        some, frames = (x != 0).any(-1), x.shape[1]  # NaN is not 0
        last = frames - jnp.argmax(some[:, ::-1], axis=1)
        nothing = (jnp.isnan(x) | (x == 0)).all((1, 2))
        last_of[m] = jnp.where(nothing, 0, last).astype(jnp.int32)
    lengths = {}
    for m, x in features.items():
        alike = [
            jnp.where(said[o] < 0, last_of[o], 0)
            for o in features
            if features[o].shape[1] == x.shape[1]
        ]
        shared = jnp.where(last_of[m] > 0, jnp.stack(alike).max(0), 0)
        lengths[m] = jnp.where(said[m] < 0, shared, jnp.where(last_of[m] > 0, said[m], 0))
    return lengths


def observed_frames(
    features: Mapping[str, jax.Array], lengths: Mapping[str, jax.Array]
) -> dict[str, jax.Array]:
    """Return modality -> (R, T_m) bool: frames that exist and hold a number."""
    return {
        m: (jnp.arange(x.shape[1]) < lengths[m][:, None]) & known_numbers(x, 1).any(-1)
        for m, x in features.items()
    }


def observed_shares(
    modalities: Sequence[str], observed: jax.Array, lengths: Mapping[str, jax.Array]
) -> jax.Array:
    """Return (R, M), the share of each modality's frames that is observed; 0 where there is none.

    Args:
      observed, lengths: of `observed_frames` and `find_lengths`.
    """
    shares = [observed[m].sum(1) / jnp.maximum(lengths[m], 1) for m in modalities]
    return jnp.stack(shares, 1)


def known_numbers(given: jax.Array, axis: int) -> jax.Array:
    """Return given's shape: the numbers that a model reads; axis: see `completed`."""
    whole = ~jnp.isnan(given).any(-1, keepdims=True)
    return numbers_of_partial_frames(given, axis) | whole


def numbers_of_partial_frames(given: jax.Array, axis: int) -> jax.Array:
    """Return given's shape: numbers of frames that hold NaN beside them. Of a modality that is zero
    apart from that, and therefore missing, there are none."""
    known = ~jnp.isnan(given)
    some = (known & (given != 0)).any(-1, keepdims=True)
    if axis == 1:  # frames of an utterance, not utterances of a conversation
        some = some.any(1, keepdims=True)
    return known & some & ~known.all(-1, keepdims=True)


def filled(
    parameters: Mapping, features: Mapping[str, jax.Array], axis: int = 1
) -> dict[str, jax.Array]:
    """Return features as in the file, with what frames lack beside their numbers filled in.

    Args:
      parameters: 'entries', modality -> fields of `kriging.Field`, the covariance of standardised
        features; of others the training mean is taken.
      features: modality -> (R, T_m, C_m), NaN where not observed; of conversations (R, F, C_m), of
        which every utterance is filled from its own numbers.
      axis: see `completed`.
    """
    result = {}
    for m, x in features.items():
        known = known_numbers(x, axis)
        partial = known & jnp.isnan(x).any(-1, keepdims=True)
        fields = parameters.get("entries", {})
        made = jnp.zeros_like(x)
        if m in fields:
            standard = standardised(parameters, m, x, known)
            shape = x.shape if axis == 1 else (-1, 1, x.shape[-1])
            standard, known, some = (a.reshape(shape) for a in (standard, known, partial))
            # An utterance without such frames takes no step, and its bits stay what they are.
            known = known & some.any((1, 2), keepdims=True)
            field = kriging.Field(**fields[m])

            def fill(standard=standard, known=known, field=field):
                return kriging.conditional_mean(field, standard, known)

            empty = functools.partial(jnp.zeros_like, standard)
            made = jax.lax.cond(some.any(), fill, empty).reshape(x.shape)
        lacking = partial.any(-1, keepdims=True) & jnp.isnan(x)
        result[m] = jnp.where(lacking, in_units(parameters, m, made), x)
    return result


def standardised(parameters: Mapping, m: str, x: jax.Array, observed: jax.Array) -> jax.Array:
    """Return features (..., C_m) as networks read them; what is not observed is the mean.

    Args:
      parameters: 'mean' and 'scale' by modality, (C_m): standardised is (x - mean) scale.
      observed: (...) or (..., C_m) bool.
    """
    observed = observed if observed.ndim == x.ndim else observed[..., None]
    # -inf is a known defect of openSMILE's files; training reads it as the mean, too.
    x = jnp.where(observed & ~jnp.isneginf(x), x, parameters["mean"][m])
    x = (x - parameters["mean"][m]) * parameters["scale"][m]
    return jnp.clip(x, -LARGEST_DEVIATION, LARGEST_DEVIATION)


def in_units(parameters: Mapping, m: str, x: jax.Array) -> jax.Array:
    """Return standardised features (..., C_m) in the file's units; see `standardised`."""
    mean, scale = parameters["mean"][m], parameters["scale"][m]
    return x * jnp.where(scale > 0, 1 / jnp.where(scale > 0, scale, 1), 0.0) + mean


def scaling(dataset: Dataset) -> dict[str, dict[str, np.ndarray]]:
    """Return 'mean' and 'scale' of `standardised` and 'entries' of `filled`, as a model keeps
    them."""
    names = enumerate(("mean", "scale"))
    fields = entries.covariances(dataset.splits["train"], dataset.scaling)
    return {
        name: {m: pair[i].astype(np.float32) for m, pair in dataset.scaling.items()}
        for i, name in names
    } | {"entries": {m: field._asdict() for m, field in fields.items()}}
