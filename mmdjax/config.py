"""Every setting of a run: its name, default and meaning. Checked once, then frozen.

Config files return `ml_collections.ConfigDict`; `from_dict` turns one into the dataclasses below.
`diffusion` and `networks` never see them: the mathematics takes plain numbers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from mmdjax.config_comparison import NO_COMPARISON, Comparison
from mmdjax.config_graph import GRAPH, Graph
from mmdjax.config_training import MESH, TRAINING, Mesh, Training
from mmdjax.config_values import dataclass_from
from mmdjax.errors import UserError, choice


@dataclasses.dataclass(frozen=True)
class Data:
    """What is read.

    Attributes:
      name: 'synthetic' (three modalities), 'synthetic_five' or 'mmsa'; of conversations
        'synthetic_conversations' or 'gcnet'.
      path: the user's file (mmsa, gcnet).
      modalities: 'key:name' for each modality, its key in the file and its name here (mmsa, gcnet).
        The order is that of the modality axis, of pattern names and of chained draws.
      classes: labels are 0 to classes - 1; 0 for sentiment (gcnet).
      train, valid, test, seed: sizes and law of the synthetic sets.
      length_buckets: latents are cut to the shortest of these lengths that holds the utterance, and
        conversations padded to the shortest that holds all their utterances.
    """

    name: str = "synthetic"
    path: str = ""
    modalities: tuple[str, ...] = ()
    classes: int = 0
    train: int = 2048
    valid: int = 512
    test: int = 1024
    seed: int = 0
    length_buckets: tuple[int, ...] = (48,)

    def names_by_key(self) -> dict[str, str]:
        """key in the file -> the modality's name, in order."""
        return dict(pair.rsplit(":", 1) for pair in self.modalities)


@dataclasses.dataclass(frozen=True)
class Latents:
    """frames T and channels D of the encoders' output; dropout on their input features."""

    frames: int = 48
    channels: int = 32
    dropout: float = 0.0


@dataclasses.dataclass(frozen=True)
class Fusion:
    """MulT: layers and heads of each transformer, dropout on attention and elsewhere."""

    layers: int = 4
    heads: int = 8
    attention_dropout: float = 0.2
    dropout: float = 0.1


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

    network: str = "score_transformer"
    width: int = 256
    layers: int = 6
    heads: int = 8
    mlp: int = 512
    time_features: int = 256
    fourier_scale: float = 16.0
    attention: str = "joint"
    patch: int = 1


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


@dataclasses.dataclass(frozen=True)
class Decoder:
    """RCAN-1D alignment decoder: channels inside, number of residual blocks, reduction of the
    channel attention, and the weight lambda of its loss (thesis eq. 5.23). use=False: none, draws
    go to the fusion as they are."""

    channels: int = 64
    blocks: int = 20
    reduction: int = 16
    weight: float = 0.2
    use: bool = True


@dataclasses.dataclass(frozen=True)
class Imder:
    """IMDer's one stage: `faithful` keeps what its code does and its equations do not say, see
    `methods/imder.py`; weight of score matching and reconstruction beside the L1 loss."""

    faithful: bool = False
    weight: float = 0.1


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """draws K that a prediction averages, missing rates of the random protocol, rows a call; gaps
    as 'name=rate' of `data/gaps.py`, such as 'burst=0.3' (two_stage)."""

    draws: int = 8
    rates: tuple[float, ...] = (0.0, 0.3, 0.5, 0.7)
    batch: int = 128
    gaps: tuple[str, ...] = ()

    def generators(self) -> list[tuple[str, float]]:
        """(name, rate) of `gaps`; raises `UserError` for what is not."""
        found = []
        for text in self.gaps:
            name, _, rate = text.partition("=")
            try:
                found.append((name, float(rate)))
            except ValueError:
                raise UserError(
                    f"config.evaluation.gaps has {text!r}; allowed: 'name=rate'"
                ) from None
        return found


@dataclasses.dataclass(frozen=True)
class Config:
    """A whole run.

    Attributes:
      title: of the report.
      method: two_stage; imder (one stage; reads `imder`, `imder_training`, `score`, `diffusion`,
        `decoder`); or gsdnet (conversations; reads `graph`, `score`, `diffusion`).
      seeds: the run is trained and evaluated once for each.
      rounds: incomplete sets of each training utterance in stage 2.
      training_rate: missing rate of the random protocol at which these are drawn, complete ones
        among them; 0: every incomplete pattern equally often. Beside either, one row in 2^M - 1 of
        a batch is complete.
      fills: what the two-stage system is trained and evaluated with: 'draws', and the constants
        'zero' and 'mean' to compare with. Without 'draws' no score network is trained.
      comparison: several systems in one run, see `config_comparison.py`.
      optimise: False compiles all programs but the draws faster and lets them run slower: for
        trials of minutes, in which compiling is most of the time.
      save_seconds: checkpoints are at least this far apart; the last of a phase is always saved.
      keep_last: so many checkpoints of a phase are kept; each holds the best parameters so far.
      mesh: devices of training; the same numbers come out on any, up to rounding.
    """

    title: str = "mmdjax"
    method: str = "two_stage"
    seeds: tuple[int, ...] = (0,)
    rounds: int = 6
    training_rate: float = 0.0
    fills: tuple[str, ...] = ("draws", "zero", "mean")
    save_seconds: float = 30.0
    keep_last: int = 2
    optimise: bool = True
    data: Data = Data()
    latents: Latents = Latents()
    fusion: Fusion = Fusion()
    score: Score = Score()
    diffusion: Diffusion = Diffusion()
    decoder: Decoder = Decoder()
    classifier_training: Training = TRAINING
    score_training: Training = TRAINING
    stage2_training: Training = TRAINING
    imder: Imder = Imder()
    graph: Graph = GRAPH
    imder_training: Training = TRAINING
    evaluation: Evaluation = Evaluation()
    mesh: Mesh = MESH
    comparison: Comparison = NO_COMPARISON


def from_dict(values: Mapping[str, Any]) -> Config:
    """Checks a config file's values.

    Raises:
      UserError: an unknown field, a wrong type, a value out of range.
    """
    from mmdjax.config_check import check

    config = dataclass_from(Config, values, "config")
    config = dataclasses.replace(config, diffusion=with_recipe(config.diffusion))
    check(config)
    return config


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


def to_dict(config: Config) -> dict[str, Any]:
    """Plain JSON-able values, the inverse of `from_dict`."""
    return dataclasses.asdict(config)
