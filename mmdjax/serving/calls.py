"""A request in compiled calls: rows that are alike go together, and come back in their order."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from mmdjax.errors import require
from mmdjax.methods.served import Route
from mmdjax.serving import inputs, rows
from mmdjax.types import Talk

# The axis of frames; an utterance of a conversation has one.
FRAMES = {"features": 2, "drawn": 1, "exists": 1}
Progress = Callable[[int, int], object]  # utterances done, utterances of all


class Settings(NamedTuple):
    """How a request is answered; see `Imputer.impute`. whole: completed features are asked for."""

    draws: int
    seed: int
    level: float
    whole: bool
    progress: Progress | None


@functools.cache
def programs(route: Route) -> tuple[Callable, Callable]:
    """Return the jitted `encode` and `answer` of a route; equal routes share them."""
    return jax.jit(route.encode), jax.jit(route.answer, static_argnames=("draws", "level"))


def answered(imputer: Any, given: inputs.Given, where: Talk | None, how: Settings) -> dict:
    """Return `Route.answer` to all utterances, (N, ...).

    Args:
      imputer: a trained `Imputer`. where: they stand in conversations.

    Raises:
      UserError: frames are missing that the model has not learned to draw.
    """
    encoder, answerer = programs(imputer.route)
    encode = functools.partial(encoder, imputer.parameters)

    def answer(encoded, completed):
        seeded = imputer.parameters, encoded, np.uint32(how.seed), completed
        return answerer(*seeded, draws=how.draws, level=how.level)

    parts, places, size = [], [], max(1, imputer.batch // how.draws)
    for columns, members in rows.groups(given, where, imputer.lengths):
        x, exists = columns[0], members >= 0
        encoded = rows.in_calls(encode, columns, np.arange(len(members)), size)
        if not imputer.signature["frame_gaps"]:
            _check_gaps(x, encoded.lengths)
        for chosen, arrays in rows.alike(imputer.route, encoded, x, imputer.lengths, how.whole):
            parts.append(rows.in_calls(answer, arrays, chosen, size, exists))
            places.append(members[chosen][exists[chosen]])
            if how.progress:
                how.progress(sum(map(len, places)), len(given))
    order = np.argsort(np.concatenate(places))
    joined = jax.tree.map(lambda *a: np.concatenate(a)[order], *parts)
    for name in joined.keys() & FRAMES.keys() if where is not None else ():
        joined[name] = {m: np.expand_dims(a, FRAMES[name]) for m, a in joined[name].items()}
    return joined


def _check_gaps(features: Mapping[str, np.ndarray], lengths: Mapping[str, np.ndarray]) -> None:
    """Raise `UserError` where frames are missing of a model of whole modalities."""
    allowed = "all frames or none, or a model trained with config.diffusion.frame_gaps above 0"
    for m, end in lengths.items():
        x = features[m]
        gaps = (np.isnan(x).all(-1) & (np.arange(x.shape[1]) < end[:, None])).any(1)
        problem = f"{m}: utterance {np.argmax(gaps)} lacks some of its frames; this model was"
        require(not gaps.any(), f"{problem} trained for whole modalities", allowed)
