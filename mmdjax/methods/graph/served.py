"""GSDNet in use: read conversations, draw, refine, predict, and back to features.

A row is a conversation, a frame an utterance, which is completed from its own modalities and from
its neighbours.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from mmdjax.methods import reading
from mmdjax.methods import served as shared
from mmdjax.methods.graph.diffusion import GraphModules, draw, shown
from mmdjax.methods.graph.modules import Predictor, Prepared, build, completed
from mmdjax.methods.graph.phases import CLASSIFIER_NAME, drawn_by
from mmdjax.methods.graph.states import known_graphs
from mmdjax.methods.graph.variants import PLAIN
from mmdjax.methods.latent.draw import grid_of
from mmdjax.methods.method import Served, of_name
from mmdjax.methods.served import Encoded, Route
from mmdjax.types import Params

if TYPE_CHECKING:
    from mmdjax.methods.gsdnet import GraphMethod
    from mmdjax.tasks import Task


@dataclasses.dataclass(frozen=True)
class GraphRoute(Route):
    """The route of methods that complete conversations.

    Its parameters are 'mean', 'scale', 'forward' and 'back' (modality -> (C_m, D) and (D, C_m), see
    `data/components.py`), 'predictor' ('gcn', perhaps 'features' and 'graph'), 'unit' () of the
    graphs' state, 'bounds' (of `Task.calibrate`); and 'score', 'grid' (steps + 1,) where what is
    missing is drawn rather than filled with the mean.

    Attributes:
      modules, predictor: the networks.
      diffusion: `mmdjax.config.Diffusion`.
      basis, edges: of `states.known_graphs`.
    """

    modules: GraphModules
    predictor: Predictor
    diffusion: object
    basis: str
    edges: tuple[tuple[str, float], ...]

    def encode(
        self,
        parameters: Mapping,
        features: Mapping[str, jax.Array],
        said: Mapping[str, jax.Array],
        beside: Mapping[str, jax.Array],
    ) -> Encoded:
        """See `Route.encode`; rows are a dict of arrays (R, F, ...) and the 'number' (R,)."""
        position, valid = beside["position"], beside["valid"]
        speaker = _first(beside["speaker"], valid)
        columns = [position[..., None], speaker[..., None]]
        standard, x, observed = {}, [], []
        given, features = features, reading.filled(parameters, features, axis=2)
        for m in self.modalities:
            seen = valid & ~jnp.isnan(features[m]).any(-1)
            shown = jnp.where(seen[..., None] & ~jnp.isnan(given[m]), given[m], 0.0)
            columns += [shown, seen[..., None]]
            standard[m] = reading.standardised(parameters, m, features[m], seen)
            x.append(standard[m] @ parameters["forward"][m])
            observed.append(seen)
        rows = {
            "features": standard,
            "x": jnp.stack(x, 2),
            "observed": jnp.stack(observed, 2),
            "position": position,
            "speaker": speaker,
            "valid": valid,
            "number": _number(columns, valid),
        }
        return Encoded(rows, {}, valid.sum(1), jnp.zeros(valid.shape[0], jnp.int32))

    def cut(self, rows: Any, features: Any, frames: int) -> tuple[Any, Any]:
        """Cut utterances."""
        number = rows["number"]
        rows, features = jax.tree.map(lambda a: a[:, :frames], (rows | {"number": None}, features))
        return rows | {"number": number}, features

    def answer(
        self,
        parameters: Mapping,
        rows: Any,
        seed: jax.Array,
        given: tuple | None,
        draws: int,
        level: float,
    ) -> dict:
        """See `Route.answer`."""
        position, speaker, valid = (rows[name] for name in ("position", "speaker", "valid"))
        graphs = known_graphs(position, speaker, valid, self.basis, **dict(self.edges))
        features = tuple(rows["features"][m] for m in self.modalities)
        observed = rows["observed"]
        # No label is known, and none is read.
        batch = Prepared(rows["x"], features, observed, position, position, speaker, graphs)
        batch, observed = shared.repeated((batch, observed), draws)
        x, state = self.complete(parameters, batch, observed, seed, rows["number"], draws)
        back = tuple(parameters["back"][m] for m in self.modalities)
        output = completed(
            self.predictor,
            parameters["predictor"],
            batch,
            observed,
            x,
            state,
            parameters["unit"],
            back,
        ).output
        each = _by_draw(self.task.read(output), draws)
        answer = shared.predicted(self.task, parameters["bounds"], each, rows["observed"], level)
        if given is None:
            return answer
        parts = {}
        for i, m in enumerate(self.modalities):
            drawn = valid & ~rows["observed"][..., i]
            components = _by_draw(x[:, :, i] @ parameters["back"][m], draws)
            parts[m] = shared.completed(
                parameters, m, components, given[0][m], drawn, valid, axis=2
            )
            squares = parts[m].pop("squares")
            parts[m]["deviation"] = jnp.where(drawn, jnp.sqrt(squares), 0.0)
        return answer | shared.by_modality(parts)

    def complete(
        self,
        parameters: Mapping,
        batch: Prepared,
        observed: jax.Array,
        seed: jax.Array,
        number: jax.Array,
        draws: int,
    ) -> tuple[jax.Array, jax.Array]:
        """Complete components and graphs, (R K, F, M, D) and (R K, F, S).

        Args:
          batch, observed: each row K times. seed: () uint32. number: (R,) uint32; with the seed and
            a draw's number it is all the randomness.
        """
        given = shown(self.modules.state, batch.graphs, batch.x, observed, parameters["unit"])
        if "score" not in parameters:
            return given.x, given.partial
        x, state, _ = draw(
            self.modules,
            parameters["score"],
            batch.graphs,
            given,
            shared.draw_keys(seed, number, draws),
            parameters["grid"],
            self.diffusion.sampler,
            prior=self.diffusion.prior,
            **self.diffusion.options(),
        )
        return x, state


def _by_draw(a: jax.Array, draws: int) -> jax.Array:
    """(R K, F, ...) -> (R, F, K, ...)."""
    return jnp.moveaxis(a.reshape(-1, draws, *a.shape[1:]), 1, 2)


def _first(speaker: jax.Array, valid: jax.Array) -> jax.Array:
    """(R, F) int32, the first utterance of the same speaker: numbers of speakers, whatever they are
    called."""
    alike = (speaker[:, :, None] == speaker[:, None, :]) & valid[:, None, :]
    return jnp.where(valid, jnp.argmax(alike, -1), 0).astype(jnp.int32)


def _number(columns: list[jax.Array], valid: jax.Array) -> jax.Array:
    """(R,) uint32 of every bit of utterances' columns (R, F, C): neither padding nor other
    conversations change it."""
    bits = shared.bits_of(jnp.concatenate([a.astype(jnp.float32) for a in columns], -1))
    each = shared.hashed(bits.reshape(bits.shape[0], -1)).reshape(bits.shape)
    each = jnp.where(valid[..., None], each, jnp.uint32(0))
    return shared.mixed(each.sum((1, 2), dtype=jnp.uint32))


def route(config: Any, modalities: tuple[str, ...], task: Task) -> GraphRoute:
    """Return the route of a config (`mmdjax.config.Config`) with a method of conversations."""
    graph = config.graph
    if not of_name(config.method).draws:  # as `GraphMethod.system`
        graph = dataclasses.replace(graph, variant=PLAIN)
    config = dataclasses.replace(config, graph=graph)
    modules, predictor = build(config, len(modalities), task.outputs)
    return GraphRoute(
        modalities=modalities,
        task=task,
        modules=modules,
        predictor=predictor,
        diffusion=config.diffusion,
        basis=graph.basis,
        edges=tuple(graph.edges().items()),
    )


def served(method: GraphMethod, params: Params, seed: int) -> Served:
    """Return what a method of conversations needs in use, chosen on the validation split.

    Args:
      method: `methods.gsdnet.GraphMethod`. params: phase -> its parameters.
    """
    from mmdjax.methods.calibration import choose  # not of a served model

    system, dataset = method.system, method.dataset.pooled
    candidates = {"complete": params[CLASSIFIER_NAME], "stage2": params[method.predicts]}
    masks = system.validation_masks()
    name, bounds = choose(method, params, seed, masks, candidates)
    modalities, components = method.modalities, system.grouped.components
    arrays = reading.scaling(dataset) | {
        "forward": dict(zip(modalities, components.forward, strict=True)),
        "back": dict(zip(modalities, components.back, strict=True)),
        "predictor": candidates[name],
        "unit": system.scale,
        "bounds": bounds,
    }
    if method.draws:
        grid = grid_of(system.modules.sde, method.config.diffusion)
        arrays |= {"score": params[drawn_by(method.config)], "grid": grid}
    valid = dataset.standardised["valid"]
    explained = {
        m: _explained(valid.features[m][valid.valid[m]], forward, back)
        for m, forward, back in zip(modalities, *components, strict=True)
    }
    lengths = [int(n) for n in system.grouped.lengths]
    return Served(arrays, explained, {"frame_gaps": False, "lengths": lengths, "predictor": name})


def _explained(x: np.ndarray, forward: np.ndarray, back: np.ndarray) -> float:
    """Share of the variance of standardised x (N, C) that its components keep."""
    return float(1 - ((x - x @ forward @ back) ** 2).sum() / max((x**2).sum(), 1e-12))
