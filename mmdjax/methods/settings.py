"""Settings of how missing latents are drawn."""

from __future__ import annotations

import dataclasses
from typing import Any

from mmdjax.errors import UserError, choice


@dataclasses.dataclass(frozen=True)
class Diffusion:
    """How missing latents are drawn.

    Attributes:
      sde: forward process: vp, vp_cosine, sub_vp, ve, ve_geometric, edm or rectified_flow.
      recipe: of `methods/recipes.py`: fast-4, fast-8, quality-16, thesis-speed, thesis-quality or
        imder; it stands for sampler, grid, their options and nfe. '' for one's own.
      sampler, grid: solver and time grid, see `diffusion/samplers` and `diffusion/time_grids.py`.
      sampler_options: the solver's own settings as 'name=number', such as 'eta=0.5' of ddim.
      grid_options: the grid's, as 'name=number' or 'name=number,number,...', such as
        'warp=0.8,-0.2' of log_snr.
      nfe: network evaluations of a draw (twice as many with guidance); the solver has to be able
        to spend them exactly. 0 for 'adaptive', which chooses for itself.
      conditioning: what the score network sees of the observed modalities: 'clean', or noised
        ('independent', 'shared') to reproduce published systems, see `diffusion/conditioning.py`.
      weighting: of the score loss over time: v, noise, likelihood, edm or min_snr.
      unconditional: probability that training drops every condition; guidance needs some.
      frame_gaps: probability that training drops frames of a modality it shows, the target's own
        included; with some, frames can be drawn given those that remain (score_transformer).
      guidance: scale of classifier-free guidance; 1 is none and samples the conditional law.
      coupling: how two missing modalities of an utterance are drawn: 'chain' (the second given the
        first: the joint law) or 'independent' (each given the observed ones: the thesis).
    """

    sde: str = "vp"
    recipe: str = ""
    sampler: str = "ddim"
    sampler_options: tuple[str, ...] = ()
    grid: str = "quadratic"
    grid_options: tuple[str, ...] = ()
    nfe: int = 30
    conditioning: str = "clean"
    weighting: str = "v"
    unconditional: float = 0.0
    frame_gaps: float = 0.0
    guidance: float = 1.0
    coupling: str = "chain"
    dtype: str = "float32"

    def options(self) -> dict[str, float]:
        """The solver's settings as keyword arguments; raises `UserError` for what is no number."""
        given = _assignments("sampler_options", self.sampler_options)
        return {name: values[0] for name, values in given.items()}

    def grid_arguments(self) -> dict[str, Any]:
        """The grid's settings as keyword arguments; an optimised grid aims at the solver."""
        given = _assignments("grid_options", self.grid_options)
        result = {name: v if name == "warp" else v[0] for name, v in given.items()}
        if self.grid == "optimised":
            result |= {"method": self.sampler, **self.options()}
        return result


def _assignments(field: str, texts: tuple[str, ...]) -> dict[str, tuple[float, ...]]:
    """name -> numbers, of 'name=number,number'."""
    result = {}
    for text in texts:
        name, _, values = text.partition("=")
        if name in result:
            raise UserError(f"config.diffusion.{field} names {name!r} twice")
        try:
            parts = values.split(",")
            numbers = [int(v) if v.lstrip("-").isdigit() else float(v) for v in parts]
        except ValueError:
            raise UserError(
                f"config.diffusion.{field} has {text!r}; allowed: 'name=number'"
            ) from None
        result[name] = tuple(numbers)
    return result


def with_recipe(diffusion: Diffusion) -> Diffusion:
    """The recipe's fields filled in.

    Raises:
      UserError: an unknown recipe, or a field that says something else than it does.
    """
    from mmdjax.methods.recipes import FIELDS, RECIPES

    if not diffusion.recipe:
        return diffusion
    choice("config.diffusion.recipe", diffusion.recipe, tuple(RECIPES))
    plain = Diffusion()
    meant = {name: getattr(plain, name) for name in FIELDS} | RECIPES[diffusion.recipe]
    for name, value in meant.items():
        given = getattr(diffusion, name)
        if given not in (getattr(plain, name), value):
            raise UserError(
                f"config.diffusion.{name} = {given!r} while recipe {diffusion.recipe!r} says "
                f"{value!r}; allowed: one of the two (recipe='' for your own)"
            )
    return dataclasses.replace(diffusion, **meant)


DIFFUSION = Diffusion()
