"""DiCMoR in use: the route of latents, completed by flows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from mmdjax.methods import served as shared
from mmdjax.methods.dicmor import DistributionConsistent, transferred
from mmdjax.methods.latent.cover import Cover
from mmdjax.methods.latent.modules import build
from mmdjax.methods.latent.served import LatentRoute, served
from mmdjax.networks.flow import Step

if TYPE_CHECKING:
    from mmdjax.tasks import Task

__all__ = ["FlowRoute", "route", "served"]


@dataclasses.dataclass(frozen=True)
class FlowRoute(LatentRoute):
    """The route of a method that carries latents over by flows, its parameters' 'flows'.

    Attributes:
      step: of the flows.
    """

    step: Step

    def complete(
        self,
        parameters: Mapping,
        z: jax.Array,
        cover: Cover,
        number: jax.Array,
        seed: jax.Array,
        draws: int,
    ) -> jax.Array:
        """See `LatentRoute.complete`; nothing is drawn, so that draws are equal."""
        z = transferred(self.step, parameters["flows"], z, cover.shown)
        return shared.repeated(jnp.where(cover.exists[..., None], z, 0.0), draws)


def route(config: Any, modalities: tuple[str, ...], task: Task) -> FlowRoute:
    """Return the route of a config (`mmdjax.config.Config`)."""
    modules = build(config, modalities, task.outputs)
    step = DistributionConsistent.step_of(config)
    return FlowRoute(modalities, task, modules, config.diffusion, step)
