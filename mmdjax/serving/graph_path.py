"""The whole path of a request about conversations: draw, refine, predict, and back to features.

As `path.py` for utterances by themselves; GSDNet completes an utterance from its own modalities and
from its neighbours.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmdjax.data.pipeline import LARGEST_DEVIATION
from mmdjax.methods.graph.diffusion import GraphModules, draw, shown
from mmdjax.methods.graph.states import known_graphs
from mmdjax.methods.gsdnet import Predictor, Prepared, build, completed
from mmdjax.serving.interval import class_set, interval
from mmdjax.serving.path import deviation, hashed, mixed


class GraphParameters(NamedTuple):
    """Everything that a request is answered with.

    Attributes:
      mean, scale: modality -> (C_m) of features: standardised is (x - mean) scale.
      forward, back: modality -> (C_m, D) and (D, C_m), see `data/components.py`.
      score: {'features', 'graph'}. predictor: {'gcn'}, perhaps {'features', 'graph'}.
      unit: () of the graphs' state. grid: (steps + 1,) times. intervals: of `interval.py`.
    """

    mean: dict
    scale: dict
    forward: dict
    back: dict
    score: dict
    predictor: dict
    unit: np.ndarray
    grid: np.ndarray
    intervals: dict


class GraphPath(NamedTuple):
    """What is fixed of the path; hashable.

    Attributes:
      diffusion: `mmdjax.config.Diffusion`. basis, edges: of `graph_states.known_graphs`.
      classes: 0 for sentiment.
    """

    modalities: tuple[str, ...]
    modules: GraphModules
    predictor: Predictor
    diffusion: object
    basis: str
    edges: tuple[tuple[str, float], ...]
    classes: int


def path_of(config, modalities: tuple[str, ...]) -> GraphPath:
    """That of the first of config.graph.variants."""
    modules, predictors = build(config, len(modalities))
    name, graph = config.graph.variants[0], config.graph
    edges = tuple(graph.edges().items())
    parts = (modules[name], predictors[name], config.diffusion, graph.basis, edges)
    return GraphPath(modalities, *parts, config.data.classes)


def answer(
    path: GraphPath,
    parameters: GraphParameters,
    given,
    seed,
    draws: int,
    level: float,
    whole: bool = True,
):
    """Of B conversations of at most N utterances.

    Args:
      given: features m -> (B, N, C_m) float32 as in the file, NaN where not observed; position
        (B, N) float32; speaker (B, N) numbers; valid (B, N) bool, utterances that exist.
      seed: () uint32. draws: K. level: of `interval.LEVELS`. whole: features as well.

    Returns:
      Of sentiment 'draws' (B, N, K), 'mean', 'low', 'high' and 'spread' (B, N); of classes 'draws'
      (B, N, K, classes), 'mean' and 'within' (B, N, classes), 'spread' (B, N). By modality
      'features' (B, N, K, C_m), 'drawn' (B, N) bool, 'deviation' (B, N), root mean square of the
      standard deviation over draws, in the training data's; 0 where nothing was drawn.
    """
    features, position, speaker, valid = given
    batch, count = valid.shape
    speaker = _first(speaker, valid)
    own, x, observed, about = [], [], [], [position[..., None], speaker[..., None]]
    for m in path.modalities:
        seen = valid & ~jnp.isnan(features[m]).any(-1)
        raw = jnp.where(seen[..., None], features[m], 0.0)
        about += [raw, seen[..., None]]
        # As of utterances: -inf is a known defect of openSMILE's files, read as the mean.
        raw = jnp.where(seen[..., None] & ~jnp.isneginf(raw), raw, parameters.mean[m])
        raw = (raw - parameters.mean[m]) * parameters.scale[m]
        own.append(jnp.clip(raw, -LARGEST_DEVIATION, LARGEST_DEVIATION))
        x.append(own[-1] @ parameters.forward[m])
        observed.append(seen)
    graphs = known_graphs(position, speaker, valid, path.basis, **dict(path.edges))
    once = Prepared(jnp.stack(x, 2), tuple(own), position, position, speaker, graphs)
    every, seen = jax.tree.map(
        lambda a: jnp.repeat(a, draws, axis=0, total_repeat_length=batch * draws),
        (once, jnp.stack(observed, 2)),
    )
    base, index = jax.random.key(seed), jnp.tile(jnp.arange(draws, dtype=jnp.uint32), batch)
    fold = jax.vmap(lambda row, k: jax.random.fold_in(jax.random.fold_in(base, row), k))
    number = jnp.repeat(_number(about, valid), draws, total_repeat_length=batch * draws)
    keys = fold(number, index)
    known = shown(path.modules.state, every.graphs, every.x, seen, parameters.unit)
    made, state, _ = draw(
        path.modules,
        parameters.score,
        every.graphs,
        known,
        keys,
        parameters.grid,
        path.diffusion.sampler,
        **path.diffusion.options(),
    )
    back = tuple(parameters.back[m] for m in path.modalities)
    about = (every, seen, made, state, parameters.unit, back)
    outputs = completed(path.predictor, parameters.predictor, *about).prediction
    outputs = jnp.moveaxis(outputs.reshape(batch, draws, count, -1), 1, 2)
    observed = jnp.stack(observed, 2)
    found = _predicted(path, parameters, outputs, observed, level)
    if not whole:
        return found
    return found | _features(path, parameters, features, made, observed, valid, draws)


def answer_rows(
    path: GraphPath, parameters: GraphParameters, features, said, seed, draws: int, level: float
):
    """`answer` where nothing but arrays of one kind is given: a row is a conversation, a frame an
    utterance.

    Args:
      features: as in `answer`, and 'speaker' and 'position' (B, N, 1), NaN for one who speaks
        throughout and for the order in which utterances stand. Zeros count as missing; utterances
        with nothing observed as none.
      said: as `features` (B,) int32, utterances that are given; -1: as many as there are.

    Returns:
      That of `answer`, numbers that are predicted being NaN where there is no utterance, but
      'features' (B, K, N, C_m); 'exists' by modality (B, N).
    """
    x, exists = {}, False
    for m in path.modalities:
        count = features[m].shape[1]
        given = (jnp.arange(count) < said[m][:, None]) | (said[m][:, None] < 0)
        seen = given & ~jnp.isnan(features[m]).any(-1) & (features[m] != 0).any(-1)
        x[m], exists = jnp.where(seen[..., None], features[m], jnp.nan), exists | seen
    place = features["position"][..., 0]
    place = jnp.where(jnp.isnan(place), jnp.arange(count, dtype=jnp.float32), place)
    place, speaker = (
        jnp.where(exists, a, 0.0) for a in (place, jnp.nan_to_num(features["speaker"][..., 0]))
    )
    order = jnp.lexsort((place, ~exists))  # as they speak, those that are not last

    def sort(a, by):
        return jnp.take_along_axis(a, by.reshape(*by.shape, *[1] * (a.ndim - 2)), axis=1)

    about = jax.tree.map(lambda a: sort(a, order), (x, place, speaker, exists))
    found = answer(path, parameters, about, seed, draws, level)
    found = jax.tree.map(lambda a: sort(a, jnp.argsort(order)), found)
    for name in ("draws", "mean", "low", "high", "spread"):
        if name in found:
            a = found[name]
            shape = (*exists.shape, *[1] * (a.ndim - 2))
            found[name] = jnp.where(exists.reshape(shape), a, jnp.nan)
    if "within" in found:
        found["within"] = found["within"] & exists[..., None]
    found["features"] = {m: jnp.moveaxis(x, 2, 1) for m, x in found["features"].items()}
    return found | {"exists": dict.fromkeys(path.modalities, exists)}


def _first(speaker, valid):
    """(B, N) int32, the first utterance of the same speaker: numbers of speakers, whatever they are
    called."""
    alike = (speaker[:, :, None] == speaker[:, None, :]) & valid[:, None, :]
    return jnp.where(valid, jnp.argmax(alike, -1), 0).astype(jnp.int32)


def _number(columns, valid):
    """(B,) uint32 of every bit of utterances' columns (B, N, F): what draws are keyed by, so that
    they depend on neither padding nor other conversations."""
    columns = jnp.concatenate([a.astype(jnp.float32) for a in columns], -1)
    bits = jax.lax.bitcast_convert_type(columns, jnp.uint32)
    each = hashed(bits.reshape(bits.shape[0], -1)).reshape(bits.shape)
    each = jnp.where(valid[..., None], each, jnp.uint32(0))
    return mixed(each.sum((1, 2), dtype=jnp.uint32))


def _predicted(path: GraphPath, parameters: GraphParameters, outputs, observed, level: float):
    """From outputs (B, N, K, outputs)."""
    known = observed.reshape(-1, observed.shape[-1])
    shape = outputs.shape[:2]
    if path.classes:
        each = jax.nn.softmax(outputs)
        mean = each.mean(2)
        within = class_set(parameters.intervals, mean.reshape(-1, path.classes), known, level)
        spread = jnp.sqrt((deviation(each, 2) ** 2).mean(-1))
        return {"draws": each, "mean": mean, "within": within.reshape(mean.shape), "spread": spread}
    each = outputs[..., 0]
    ends = interval(parameters.intervals, each.reshape(-1, each.shape[-1]), known, level)
    low, high = (end.reshape(shape) for end in ends)
    spread = deviation(each, 2)
    return {"draws": each, "mean": each.mean(2), "low": low, "high": high, "spread": spread}


def _features(path, parameters: GraphParameters, features, made, observed, valid, draws: int):
    """Of draws made (B K, N, M, D): what was observed as it was given."""
    found: dict[str, dict] = {"features": {}, "drawn": {}, "deviation": {}}
    for i, m in enumerate(path.modalities):
        mean, scale = parameters.mean[m], parameters.scale[m]
        x = made[:, :, i] @ parameters.back[m]
        x = x * jnp.where(scale > 0, 1 / jnp.where(scale > 0, scale, 1), 0.0) + mean
        x = jnp.moveaxis(x.reshape(-1, draws, *x.shape[1:]), 1, 2)
        drawn = valid & ~observed[..., i]
        kept = jnp.where(observed[..., i, None], features[m], 0.0)[:, :, None]
        found["features"][m] = jnp.where(drawn[..., None, None], x, kept)
        variance = ((deviation(x, 2) * scale) ** 2).mean(-1)
        found["drawn"][m], found["deviation"][m] = drawn, jnp.where(drawn, jnp.sqrt(variance), 0.0)
    return found
