"""Pictures of what a system draws from one observed modality (thesis 6.5.2, figures 6.1 to 6.4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import numpy as np
from matplotlib.figure import Figure

from mmdjax.data.missing.patterns import pattern_name
from mmdjax.evaluation.embedding import DRAWN, OBSERVED, TRUE, Panel, embed, two_sample_accuracy
from mmdjax.evaluation.embedding import pictures as grid_of
from mmdjax.evaluation.metrics import energy_distance
from mmdjax.methods.latent.completion import draw_patterns, under
from mmdjax.methods.latent.modules import filled_valid
from mmdjax.methods.two_stage import scaled

PICTURE_STREAM = 400  # of a seed's randomness


def embedded(
    system, trained, seed: int, comparison, advance: Callable[[], None] = lambda: None
) -> dict[str, dict]:
    """One t-SNE for each modality that alone is observed: its latents, the true ones of the others,
    and one draw of each, refined where the system has a decoder.

    Args:
      comparison: `mmdjax.config.Comparison`. advance: told of each 50 iterations.

    Returns:
      Pattern -> {'points': [[modality, kind, (N, 2) as lists]], 'numbers': {modality: [energy
      distance, nearest-neighbour two-sample accuracy]}}.
    """
    test = system.splits["test"]
    rng = np.random.default_rng([seed, PICTURE_STREAM])
    count = min(comparison.pictures, len(test.label))
    rows = np.sort(rng.choice(len(test.label), count, replace=False))
    z = scaled(system.encode(trained.encoders, test), trained.scale)
    z = z._replace(x=z.x[rows], valid=z.valid[rows], label=z.label[rows])
    patterns = np.eye(len(system.modalities), dtype=bool)
    key = jax.random.fold_in(jax.random.key(seed), PICTURE_STREAM)
    drawn, _ = draw_patterns(system, trained.score, z, patterns, 1, key, "draws for pictures")
    every, observed = under(patterns, z)
    drawn = drawn.reshape(every.x.shape)
    if "decoder" in trained.stage2["draws"]:
        decoder = trained.stage2["draws"]["decoder"]
        drawn = system.align(decoder, drawn, every.valid, observed)
    # Compared on frames that both have: a draw does not know its truth's length.
    mask = (filled_valid(every.valid, observed) & every.valid)[..., None]
    drawn, truth = (np.where(mask, x, 0.0).reshape(*x.shape[:2], -1) for x in (drawn, every.x))
    result = {}
    for index, pattern in enumerate(patterns):
        part = slice(index * count, (index + 1) * count)
        groups, numbers = {}, {}
        for m, name in enumerate(system.modalities):
            true = truth[part, m]
            groups[name, OBSERVED if pattern[m] else TRUE] = true
            if not pattern[m]:
                groups[name, DRAWN] = drawn[part, m]
                apart = two_sample_accuracy(drawn[part, m], true, paired=True)
                numbers[name] = [energy_distance(drawn[part, m], true), apart]
        settings = (comparison.perplexity, comparison.iterations, seed, advance)
        points = embed(groups, *settings)
        shown = [[*key, np.round(xy, 3).tolist()] for key, xy in points.items()]
        name = pattern_name(pattern, system.modalities)
        result[name] = {"points": shown, "numbers": numbers}
    return result


def pictures(
    found: Mapping[str, Mapping[str, dict]], systems: Mapping[str, object], modalities
) -> dict[str, tuple[Figure, str]]:
    """A figure for each observed modality: a row for each sampler, with and without decoder.

    Args:
      found: system -> what `embedded` returned. systems: name -> `mmdjax.config.Config`.

    Returns:
      Name -> figure and caption.
    """
    made = {}
    for source in next(iter(found.values()), {}):
        panels, counts = [], {}
        for name, by_pattern in found.items():
            config = systems[name]
            row = config.diffusion.sampler + ("" if config.decoder.use else ", no decoder")
            counts[row] = counts.get(row, 0) + 1
            one = by_pattern[source]
            points = {(m, kind): np.array(xy) for m, kind, xy in one["points"]}
            numbers = {m: tuple(pair) for m, pair in one["numbers"].items()}
            panels.append(Panel(row, str(counts[row]), name, points, numbers))
        caption = (
            f"t-SNE of test latents where only {source} is observed: true (circles) and drawn "
            "(crosses), one draw an utterance, first seed. Distances between clusters mean little; "
            "the numbers compare the laws in all dimensions."
        )
        made[f"tsne_{source}"] = (grid_of(panels, modalities), caption)
    return made
