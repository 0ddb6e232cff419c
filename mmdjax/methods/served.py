"""What serving asks of every method, and what all methods answer alike.

A method in use is a `Route`: a frozen description, equal for equal systems, whose two functions are
compiled once for all of them. `encode` reads a request, `answer` completes and predicts; the two
stay apart so that rows can be sorted by length, and by what they lack, in between.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from mmdjax.methods import reading
from mmdjax.tasks import conformal


class Encoded(NamedTuple):
    """R rows as `Route.answer` takes them.

    Attributes:
      rows: pytree of arrays with leading axis R.
      lengths: modality -> (R,) int32, frames that exist; {} where a row is a conversation.
      frames: (R,) int32, the row's length, in units of the model's `lengths`.
      code: (R,) int32, equal for rows that lack the same; such rows are answered together.
    """

    rows: Any
    lengths: dict[str, jax.Array]
    frames: jax.Array
    code: jax.Array


@dataclasses.dataclass(frozen=True)
class Route:
    """How a method answers requests; hashable, so that equal routes share compiled programs.

    A row is an utterance of T_m frames, or, of a method that sees conversations, a conversation of
    F utterances with one vector (C_m) a modality each. Parameters are the nested dicts of arrays
    that `Served` holds.

    Attributes:
      modalities: in the order of the modality axis.
      task: of `mmdjax.tasks`.
      features: whether what is missing is completed in features, too.
    """

    modalities: tuple[str, ...]
    task: Any
    features: ClassVar[bool] = True

    def encode(
        self,
        parameters: Mapping,
        features: Mapping[str, jax.Array],
        said: Mapping[str, jax.Array],
        beside: Mapping[str, jax.Array],
    ) -> Encoded:
        """Read rows; compiled once for each shape, whatever is missing.

        Args:
          features: modality -> (R, T_m, C_m) float32 as in the file, or of conversations
            (R, F, C_m); NaN where not observed.
          said: modality -> (R,) int32, frames that exist, -1 to find out
            (`reading.find_lengths`); {} of conversations.
          beside: {} of utterances. Of conversations 'position' (R, F) float32, 'speaker' (R, F)
            numbers, 'valid' (R, F) bool, the utterances that exist.
        """
        raise NotImplementedError

    def cut(self, rows: Any, features: Mapping[str, jax.Array], frames: int) -> tuple[Any, Any]:
        """Return `Encoded.rows` and features that are cut to `frames`; no row is longer."""
        raise NotImplementedError

    def answer(
        self,
        parameters: Mapping,
        rows: Any,
        seed: jax.Array,
        given: tuple | None,
        draws: int,
        level: float,
    ) -> dict[str, Any]:
        """Complete and predict.

        Args:
          rows: `Encoded.rows`, perhaps cut.
          seed: () uint32. With a row's own values and a draw's number it is all the randomness.
          given: (features, lengths) as `encode` has them where completed features are asked for,
            otherwise None.
          draws: K. level: of `mmdjax.tasks.conformal.LEVELS`.

        Returns:
          What `predicted` does, of utterances (R, K, ...), of conversations (R, F, K, ...). With
          `given` also, by modality, 'features' (R, K, T_m, C_m) or (R, F, K, C_m), 'drawn' and
          'exists' (R, T_m) or (R, F), and 'deviation' (R,) or (R, F), the root mean square of the
          standard deviation over draws, in the training data's.
        """
        raise NotImplementedError


def predicted(
    task: Any,
    table: Mapping,
    predictions: jax.Array,
    known: jax.Array,
    level: float,
    share: jax.Array | None = None,
) -> dict[str, Any]:
    """Return the answer's share of predictions.

    Args:
      table: of `task.calibrate`.
      predictions: (..., K, *task's), of each draw.
      known: (..., M) bool, something of the modality is observed.
      share: (..., M), how much of it; all where None.

    Returns:
      'draws', the predictions; 'mean' over draws; 'spread', see `Task.spread`; and what
      `task.bounds` returns: all with the leading axes of `known`.
    """
    leading = known.shape[:-1]
    flat = predictions.reshape(-1, *predictions.shape[len(leading) :])
    answer = {"draws": flat, "mean": flat.mean(1), "spread": task.spread(flat)}
    code = conformal.cells(known, share).reshape(-1)
    answer |= task.bounds(table, flat, code, level)
    return {name: a.reshape(*leading, *a.shape[1:]) for name, a in answer.items()}


def completed(
    parameters: Mapping,
    m: str,
    x: jax.Array,
    given: jax.Array,
    drawn: jax.Array,
    exists: jax.Array,
    axis: int,
) -> dict[str, Any]:
    """Return the answer's share of one modality's features.

    Args:
      parameters: 'mean' and 'scale', see `reading.standardised`.
      x: completed standardised features with draws on `axis`.
      given: the same in the file's units, without that axis; read where it was observed.
      drawn: x's shape without draws and channels; True where a value was missing. exists: likewise,
        the frames of the completed row.
      axis: of draws.

    Returns:
      'features' with the values given where not drawn, 0 where nothing exists; 'drawn'; 'exists';
      'squares', the mean over channels of the variance over draws in units of the training data's.
      Of a drawn frame that lacks some of its numbers only, the others are kept, too.
    """
    x, scale = reading.in_units(parameters, m, x), parameters["scale"][m]
    lacking = exists & reading.known_numbers(given, axis).any(-1) & jnp.isnan(given).any(-1)
    drawn = drawn | lacking
    replaced = drawn[..., None] & ~reading.numbers_of_partial_frames(given, axis)
    count = jnp.maximum(replaced.sum(-1), 1)
    squares = jnp.where(replaced, (deviation(x, axis) * scale) ** 2, 0.0).sum(-1) / count
    kept = jnp.where(exists[..., None] & ~replaced, given, 0.0)
    features = jnp.where(jnp.expand_dims(replaced, axis), x, jnp.expand_dims(kept, axis))
    return {"features": features, "drawn": drawn, "exists": exists, "squares": squares}


def by_modality(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Turn modality -> name -> array into name -> modality -> array."""
    names = next(iter(parts.values()))
    return {name: {m: values[name] for m, values in parts.items()} for name in names}


def deviation(x: jax.Array, axis: int) -> jax.Array:
    """Return the standard deviation over draws, NaN of a single one."""
    if x.shape[axis] == 1:
        return jnp.full(x.shape[:axis] + x.shape[axis + 1 :], jnp.nan)
    return x.std(axis, ddof=1)


def draw_keys(seed: jax.Array, number: jax.Array, draws: int) -> jax.Array:
    """Return (R K,) keys, a row's draws after each other.

    Args:
      seed: () uint32. number: (R,) uint32 of the row's own bits (`hashed`, `mixed`), so that draws
        depend on neither its place nor its company.
    """
    base, rows = jax.random.key(seed), number.shape[0]
    index = jnp.tile(jnp.arange(draws, dtype=jnp.uint32), rows)
    fold = jax.vmap(lambda row, k: jax.random.fold_in(jax.random.fold_in(base, row), k))
    return fold(repeated(number, draws), index)


def repeated(tree: Any, draws: int) -> Any:
    """Return each row K times, its copies after each other."""
    return jax.tree.map(
        lambda a: jnp.repeat(a, draws, axis=0, total_repeat_length=a.shape[0] * draws), tree
    )


def bits_of(x: jax.Array) -> jax.Array:
    """Return the bits of float32 numbers as uint32."""
    return jax.lax.bitcast_convert_type(x.astype(jnp.float32), jnp.uint32)


def hashed(bits: jax.Array) -> jax.Array:
    """Return (R, L) uint32, each a hash of its own value and place alone, of bits (R, L)."""
    place = 2 * jnp.arange(bits.shape[1], dtype=jnp.uint32) + 1
    return mixed(mixed(bits ^ place) * place)


def mixed(h: jax.Array) -> jax.Array:
    """Apply MurmurHash3's finaliser: every bit of h changes half of all bits."""
    h = (h ^ (h >> 16)) * jnp.uint32(0x85EBCA6B)
    h = (h ^ (h >> 13)) * jnp.uint32(0xC2B2AE35)
    return h ^ (h >> 16)
