"""Pictures of what systems complete from one observed modality (thesis 6.5.2, figures 6.1 to 6.4).

They need nothing of a method but its `truth` and what is `compared` with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np
from matplotlib.figure import Figure

from mmdjax.data.missing.patterns import pattern_name
from mmdjax.evaluation.embedding import (
    DRAWN,
    OBSERVED,
    STRIDE,
    TRUE,
    Panel,
    embed,
    pictures,
    two_sample_accuracy,
)
from mmdjax.evaluation.pages import Block
from mmdjax.metrics import energy_distance
from mmdjax.types import Observed

PICTURE_STREAM = 400  # of a seed's randomness
MOST_ROWS = 6  # systems of one figure
CAPTION = (
    "t-SNE of test utterances of which one modality is observed: true (circles) and completed "
    "(crosses) values of the others, one draw an utterance, first seed. Distances between clusters "
    "mean little; the numbers compare the laws in all dimensions."
)


def steps(comparison, modalities: Sequence[str]) -> int:
    """Return how often `embedded` calls `advance`."""
    return len(modalities) * (comparison.iterations // STRIDE)


def embedded(
    method, params, seed: int, comparison, advance: Callable[[], None] = lambda: None
) -> dict[str, dict]:
    """Make one t-SNE for each modality that alone is observed.

    Each holds the observed modality, the true values of the others and one completion of them, in
    the space in which the method's completions are compared.

    Args:
      method: of `mmdjax.methods`, with a truth. params: phase -> its parameters.
      comparison: `mmdjax.config.Comparison`.
      advance: called after each 50 iterations.

    Returns:
      Pattern -> {'points': [[modality, kind, (N, 2) as lists]], 'numbers': {modality: [energy
      distance, nearest-neighbour two-sample accuracy]}}; {} for a method without a truth.
    """
    truth = method.truth(params, "test")
    if truth is None:
        return {}
    total, names = len(truth[0][0]), method.modalities
    count = min(comparison.pictures, total)
    rng = np.random.default_rng([seed, PICTURE_STREAM])
    rows = np.sort(rng.choice(total, count, replace=False))
    patterns = np.eye(len(names), dtype=bool)
    key = jax.random.fold_in(jax.random.key(seed), PICTURE_STREAM)
    observed = Observed.of_patterns(patterns, total)
    completion = method.complete(params, "test", observed, 1, key, "draws for pictures")
    true, completed = [], []  # of each modality: (N, T C), and (Q, N, T C)
    for m, (x, frames) in enumerate(truth):
        shown = frames[rows][..., None]
        drawn = np.asarray(method.compared(params, completion, m))[:, rows, 0]
        true.append(np.where(shown, x[rows], 0.0).reshape(count, -1))
        completed.append(np.where(shown, drawn, 0.0).reshape(len(patterns), count, -1))
    width = max(x.shape[1] for x in true)  # zeros beside a narrow modality change no distance
    result = {}
    for q, pattern in enumerate(patterns):
        groups, numbers = {}, {}
        for m, name in enumerate(names):
            if pattern[m]:
                groups[name, OBSERVED] = _wide(true[m], width)
                continue
            pair = completed[m][q], true[m]
            groups[name, TRUE], groups[name, DRAWN] = (_wide(x, width) for x in pair[::-1])
            numbers[name] = [energy_distance(*pair), two_sample_accuracy(*pair, paired=True)]
        settings = (comparison.perplexity, comparison.iterations, seed, advance)
        points = embed(groups, *settings)
        result[pattern_name(pattern, names)] = {
            "points": [[*group, np.round(xy, 3).tolist()] for group, xy in points.items()],
            "numbers": numbers,
        }
    return result


def _wide(x: np.ndarray, width: int) -> np.ndarray:
    return np.pad(x, ((0, 0), (0, width - x.shape[1])))


def sections(
    points: Mapping[str, Mapping[str, dict]], modalities: Sequence[str]
) -> tuple[list[tuple[str, list[Block]]], dict[str, tuple[Figure, str]]]:
    """Return a section with a row of pictures for each system, and its figures by name.

    Args:
      points: system -> what `embedded` returned.
    """
    figures, systems = {}, []
    for name, of in points.items():  # systems that differ in K alone have the same draws
        if of and not any(of == points[other] for other in systems):
            systems.append(name)
    for start in range(0, len(systems), MOST_ROWS):
        panels = [
            Panel(
                name,
                pattern,
                f"observed: {pattern}",
                {(m, kind): np.array(xy) for m, kind, xy in of["points"]},
                {m: tuple(pair) for m, pair in of["numbers"].items()},
            )
            for name in systems[start : start + MOST_ROWS]
            for pattern, of in points[name].items()
        ]
        figures[f"tsne_{start // MOST_ROWS + 1}"] = (pictures(panels, modalities), CAPTION)
    blocks = [("figure", name, caption) for name, (_, caption) in figures.items()]
    return ([("Completed and true features", blocks)] if blocks else []), figures
