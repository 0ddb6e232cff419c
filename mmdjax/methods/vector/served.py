"""Methods of utterance vectors in use: pool what is observed, then one pass of the network."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmdjax.data.dataset import segments
from mmdjax.methods import reading
from mmdjax.methods import served as shared
from mmdjax.methods.method import Served, of_name
from mmdjax.methods.served import Encoded, Route
from mmdjax.types import Params

if TYPE_CHECKING:
    from mmdjax.methods.vector.base import VectorMethod
    from mmdjax.tasks import Task


@dataclasses.dataclass(frozen=True)
class VectorRoute(Route):
    """The route of methods whose completion is an embedding, not features.

    Its parameters are 'mean', 'scale', 'network' and 'bounds' (of `Task.calibrate`).

    Attributes:
      network: see `VectorMethod.network`.
      frames: see `VectorMethod.frames_of`.
    """

    network: nn.Module
    frames: int
    features: ClassVar[bool] = False

    def encode(
        self,
        parameters: Mapping,
        features: Mapping[str, jax.Array],
        said: Mapping[str, jax.Array],
        beside: Mapping[str, jax.Array],
    ) -> Encoded:
        """See `Route.encode`; rows are (M vectors (R, C_m) standardised, known and shares
        (R, M))."""
        lengths = reading.find_lengths(features, said)
        observed = reading.observed_frames(features, lengths)
        features = reading.filled(parameters, features)
        vectors, known = [], []
        for m in self.modalities:
            # -inf is a known defect of openSMILE's files; training reads it as the mean, too.
            x = jnp.where(jnp.isneginf(features[m]), parameters["mean"][m], features[m])
            # Frames missing at the end are not told from an end, as in training.
            last = observed[m].shape[1] - jnp.argmax(observed[m][:, ::-1], axis=1)
            last = jnp.where(observed[m].any(1), last, 0)
            x, some = segments(x, observed[m], last, self.frames)
            x = reading.standardised(parameters, m, x, some)
            x = jnp.where(some[..., None], x, 0.0)
            vectors.append(x[:, 0] if self.frames == 1 else x)
            known.append(some.any(1))
        known = jnp.stack(known, 1)
        rows = jnp.ones(known.shape[0], jnp.int32)
        code = known @ (1 << np.arange(len(self.modalities)))
        shares = reading.observed_shares(self.modalities, observed, lengths)
        return Encoded((tuple(vectors), known, shares), lengths, rows, code)

    def cut(self, rows: Any, features: Any, frames: int) -> tuple[Any, Any]:
        """Return the same: a row has one length."""
        return rows, features

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
        vectors, known, shares = rows
        outputs, _ = self.network.apply(parameters["network"], vectors, known)
        each = shared.repeated(self.task.read(outputs), draws)
        each = each.reshape(-1, draws, *each.shape[1:])
        return shared.predicted(self.task, parameters["bounds"], each, known, level, shares)


def route(config: Any, modalities: tuple[str, ...], task: Task) -> VectorRoute:
    """Return the route of a config (`mmdjax.config.Config`) with a method of vectors."""
    cls = of_name(config.method)
    network = cls.build(config, modalities, task)
    return VectorRoute(modalities, task, network, cls.frames_of(config))


def served(method: VectorMethod, params: Params, seed: int) -> Served:
    """Return what a method of vectors needs in use, calibrated on the validation split.

    Args:
      method: `methods.vector.base.VectorMethod`. params: phase -> parameters.
    """
    from mmdjax.methods.calibration import choose  # not of a served model

    name, masks = method.predicts, method.every_pattern("valid")
    variables = method.of_network(params)
    name, bounds = choose(method, params, seed, masks, {name: variables})
    arrays = reading.scaling(method.view) | {"network": variables, "bounds": bounds}
    return Served(arrays, {}, {"frame_gaps": True, "predictor": name, "lengths": [1]})
