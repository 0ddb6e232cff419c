"""GCNet in use: read conversations, then one pass of the network."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from mmdjax.methods import reading
from mmdjax.methods import served as shared
from mmdjax.methods.gcnet import GCNet, Settings
from mmdjax.methods.graph.gcnet_network import Network, numbered
from mmdjax.methods.method import Served
from mmdjax.methods.served import Encoded, Route
from mmdjax.types import Params

if TYPE_CHECKING:
    from mmdjax.tasks import Task


@dataclasses.dataclass(frozen=True)
class GCNetRoute(Route):
    """The route of GCNet.

    Its parameters are 'mean', 'scale', 'network' and 'bounds' (of `Task.calibrate`).

    Attributes:
      options: the method's own.
    """

    options: Settings

    def encode(
        self,
        parameters: Mapping,
        features: Mapping[str, jax.Array],
        said: Mapping[str, jax.Array],
        beside: Mapping[str, jax.Array],
    ) -> Encoded:
        """See `Route.encode`; rows are a dict of arrays (R, F, ...)."""
        valid, observed, standard = beside["valid"], [], []
        features = reading.filled(parameters, features, axis=2)
        for m in self.modalities:
            seen = valid & ~jnp.isnan(features[m]).any(-1)
            standard.append(reading.standardised(parameters, m, features[m], seen))
            observed.append(seen)
        rows = {
            "x": tuple(standard),
            "observed": jnp.stack(observed, 2),
            "speaker": numbered(beside["speaker"], valid),
            "valid": valid,
        }
        return Encoded(rows, {}, valid.sum(1), jnp.zeros(valid.shape[0], jnp.int32))

    def cut(self, rows: Any, features: Any, frames: int) -> tuple[Any, Any]:
        """Cut utterances."""
        return jax.tree.map(lambda a: a[:, :frames], (rows, features))

    def network(self, params: Params, channels: tuple[int, ...]) -> Network:
        """Return the network that has these parameters; how many speakers it tells apart is read
        from their shapes."""
        relations = params["params"]["speaker"]["relations"]["kernel"].shape[0]
        speakers = math.isqrt(relations // (2 * self.options.width))
        return Network.of(self.options, self.task.outputs, channels, speakers)

    def answer(
        self,
        parameters: Mapping,
        rows: Any,
        seed: jax.Array,
        given: tuple | None,
        draws: int,
        level: float,
    ) -> dict:
        """See `Route.answer`; nothing is drawn, so that draws are equal."""
        valid, observed = rows["valid"], rows["observed"]
        channels = tuple(x.shape[-1] for x in rows["x"])
        network = self.network(parameters["network"], channels)
        outputs, rebuilt = network.apply(
            parameters["network"], rows["x"], observed, rows["speaker"], valid
        )

        def by_draw(a):
            return jnp.repeat(a[:, :, None], draws, 2)

        each = by_draw(self.task.read(outputs))
        answer = shared.predicted(self.task, parameters["bounds"], each, observed, level)
        if given is None:
            return answer
        parts = {}
        for i, m in enumerate(self.modalities):
            x, drawn = by_draw(rebuilt[:, :, i, : channels[i]]), valid & ~observed[..., i]
            parts[m] = shared.completed(parameters, m, x, given[0][m], drawn, valid, axis=2)
            parts[m]["deviation"] = jnp.where(drawn, jnp.sqrt(parts[m].pop("squares")), 0.0)
        return answer | shared.by_modality(parts)


def route(config: Any, modalities: tuple[str, ...], task: Task) -> GCNetRoute:
    """Return the route of a config (`mmdjax.config.Config`)."""
    return GCNetRoute(modalities, task, config.gcnet)


def served(method: GCNet, params: Params, seed: int) -> Served:
    """Return what the method needs in use, calibrated on the validation split.

    Args:
      method: `methods.gcnet.GCNet`. params: phase -> its parameters.
    """
    from mmdjax.methods.calibration import choose  # not of a served model

    masks, weights = method.system.validation_masks(), params[method.name]
    name, bounds = choose(method, params, seed, masks, {method.name: weights})
    arrays = reading.scaling(method.dataset.pooled) | {"network": weights, "bounds": bounds}
    lengths = [int(n) for n in method.system.grouped.lengths]
    facts = {"frame_gaps": False, "lengths": lengths, "predictor": name}
    return Served(arrays, dict.fromkeys(method.modalities, 1.0), facts)
