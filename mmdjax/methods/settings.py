"""Settings of the networks that methods share, and of how missing latents are drawn."""

from __future__ import annotations

import dataclasses
from typing import Any

from mmdjax.diffusion import conditioning, losses, sde, time_grids
from mmdjax.diffusion.samplers import registry
from mmdjax.diffusion.samplers.loop import PRIORS
from mmdjax.errors import UserError, choice
from mmdjax.networks import score_networks
from mmdjax.networks.score_transformer import ATTENTION
from mmdjax.runtime.settings import field


@dataclasses.dataclass(frozen=True)
class Latents:
    """The encoders.

    Attributes:
      frames, channels: T and D of their output.
      dropout: on their input features.
      noise: deviation of the Gaussian noise that training adds to standardised features (up to
        three times as much where a modality has many columns for each utterance), to the latents
        that score networks are conditioned on, and in stage 2 to all latents.
      unimodal: weight of a linear prediction from each modality alone, so that its latents say all
        they can where the others are missing.
      reconstruction: weight of the loss by which they learn from utterances without a label, too:
        the mean square of what a linear map makes of latents, against the features. It is off
        where all training utterances have a label.
    """

    frames: int = field(48, low=1, auto=True)
    channels: int = field(32, low=1, auto=True)
    dropout: float = field(0.0, low=0, below=1)
    noise: float = field(0.0, low=0)
    unimodal: float = field(0.0, low=0)
    reconstruction: float = field(0.1, low=0)


@dataclasses.dataclass(frozen=True)
class Fusion:
    """The network that predicts from completed latents.

    Attributes:
      network: 'mult' (the published one), 'pooled' (a multilayer perceptron on means over time,
        for sets of hundreds or a few thousand utterances), or '' for what fits the data.
      layers: of each transformer, or hidden ones.
      heads, attention_dropout: of the transformers.
      width: of the hidden layers of 'pooled'.
      dropout: everywhere else.
      told: the network is told which modalities are not observed. The published ones are not.
    """

    network: str = field("mult", names=("mult", "pooled", ""))
    layers: int = field(4, low=1, auto=True)
    heads: int = field(8, low=1, auto=True)
    width: int = field(256, low=1, auto=True)
    attention_dropout: float = field(0.2, low=0, below=1)
    dropout: float = field(0.1, low=0, below=1)
    told: bool = False


@dataclasses.dataclass(frozen=True)
class Score:
    """The score networks, one for each modality.

    Attributes:
      network: score_transformer, unet (IMDer's), dit or mmdit, see `networks/score_networks.py`,
        which has the published sizes of all four.
      width, layers, heads, mlp: of the transformer. U-Net: of its deepest level.
      time_features, fourier_scale: number of Gaussian Fourier features of t, and the standard
        deviation of their frequencies.
      attention: 'joint' (the thesis) or 'prefix': condition tokens attend to each other only, and
        are computed once a draw instead of at every evaluation.
      patch: frames to a token. Both are the score transformer's alone.
    """

    network: str = field("score_transformer", names=lambda: tuple(score_networks.REGISTRY))
    width: int = field(256, low=1, auto=True)
    layers: int = field(6, low=1, auto=True)
    heads: int = field(8, low=1, auto=True)
    mlp: int = field(512, low=1, auto=True)
    time_features: int = field(256, low=1, auto=True)
    fourier_scale: float = field(16.0, above=0)
    attention: str = field("joint", names=ATTENTION)
    patch: int = field(1, low=1)


@dataclasses.dataclass(frozen=True)
class Decoder:
    """RCAN-1D alignment decoder: channels inside, number of residual blocks, reduction of the
    channel attention, and the weight lambda of its loss (thesis eq. 5.23). use=False: none, draws
    go to the fusion as they are."""

    channels: int = field(64, low=1, auto=True)
    blocks: int = field(20, low=1, auto=True)
    reduction: int = field(16, low=1, auto=True)
    weight: float = field(0.2, low=0)
    use: bool = True


def _students() -> tuple[str, ...]:
    # Students are made of what these settings describe.
    from mmdjax.methods.latent.students import STUDENTS

    return ("", *STUDENTS)


@dataclasses.dataclass(frozen=True)
class Diffusion:
    """How missing latents are drawn.

    Attributes:
      sde: forward process: vp, vp_cosine, sub_vp, ve, ve_geometric, edm or rectified_flow.
      recipe: of `methods/recipes.py`: fast-1, fast-2, fast-4, fast-8, quality-16, thesis-speed,
        thesis-quality or imder; it stands for sampler, grid, their options, nfe and student. 'fast'
        is the recommended one: fast-2 where the method can learn its solver and the other settings
        allow it, fast-8 elsewhere. '' for one's own.
      sampler, grid: solver and time grid, see `diffusion/samplers` and `diffusion/time_grids.py`.
      sampler_options: the solver's own settings as 'name=number', such as 'eta=0.5' of ddim.
      grid_options: the grid's, as 'name=number' or 'name=number,number,...', such as
        'warp=0.8,-0.2' of log_snr.
      nfe: network evaluations of a draw (twice as many with guidance); the solver has to be able
        to spend them exactly. 0 for 'adaptive', which chooses for itself.
      prior: what draws start from: 'zero', the SDE's Gaussian around 0, or 'matched', around what
        the network makes of it, for one evaluation more. VE has its prior's mean wrong by a tenth
        of a deviation, which no number of evaluations removes.
      student: networks that learn to draw by fewer evaluations, of `latent/students`: energy,
        progressive, shortcut or mean, or 'solver' for times and weights of a solver; '' for the
        score networks themselves.
      conditioning: what the score network sees of the observed modalities: 'clean', or noised
        ('independent', 'shared') to reproduce published systems, see `diffusion/conditioning.py`.
      weighting: of the score loss over time: v, noise, likelihood, edm, min_snr, velocity (flow
        matching) or logit_normal (the same with times of that law).
      unconditional: probability that training drops every condition; guidance needs some.
      frame_gaps: probability that training drops frames of a modality it shows, the target's own
        included; with some, frames can be drawn given those that remain (score_transformer).
      guidance: scale of classifier-free guidance; 1 is none and samples the conditional law.
      coupling: how two missing modalities of an utterance are drawn: 'chain' (the second given the
        first: the joint law) or 'independent' (each given the observed ones: the thesis).
    """

    sde: str = field("vp", names=lambda: tuple(sde.REGISTRY))
    recipe: str = ""
    sampler: str = field("ddim", names=registry.names)
    sampler_options: tuple[str, ...] = ()
    grid: str = field("quadratic", names=lambda: tuple(time_grids.REGISTRY))
    grid_options: tuple[str, ...] = ()
    nfe: int = field(30, low=0)
    prior: str = field("zero", names=PRIORS)
    student: str = field("", names=_students)
    conditioning: str = field("clean", names=conditioning.MODES)
    weighting: str = field("v", names=lambda: tuple(losses.WEIGHTS))
    unconditional: float = field(0.0, low=0, below=1)
    frame_gaps: float = field(0.0, low=0, below=1)
    guidance: float = field(1.0, low=0)
    coupling: str = field("chain", names=("chain", "independent"))
    dtype: str = field("float32", names=("float32", "bfloat16"))

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


@dataclasses.dataclass(frozen=True)
class Student:
    """How students of `latent/students` learn; their training is `student_training`.

    Attributes:
      draws: of each row, that the energy score compares with the truth and with each other.
      beta: exponent of its distances.
    """

    draws: int = field(2, low=2)
    beta: float = field(1.0, above=0, below=2)


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


def with_recipe(diffusion: Diffusion, named: str = "") -> Diffusion:
    """The recipe's fields filled in.

    Args:
      named: the recipe that the one of the settings stands for, itself by default.

    Raises:
      UserError: an unknown recipe, or a field that says something else than it does.
    """
    from mmdjax.methods.recipes import FAST, FIELDS, RECIPES

    if not diffusion.recipe:
        return diffusion
    named = named or diffusion.recipe
    choice("config.diffusion.recipe", named, (FAST, *RECIPES))
    plain = Diffusion()
    meant = {name: getattr(plain, name) for name in FIELDS} | RECIPES[named]
    for name, value in meant.items():
        given = getattr(diffusion, name)
        if given not in (getattr(plain, name), value):
            raise UserError(
                f"config.diffusion.{name} = {given!r} while recipe {diffusion.recipe!r} says "
                f"{value!r}; allowed: one of the two (recipe='' for your own)"
            )
    return dataclasses.replace(diffusion, **meant)


DIFFUSION = Diffusion()
