"""Every setting of a run: its name, default and meaning. Checked once, then frozen.

Config files return `ml_collections.ConfigDict`; `from_dict` turns one into the dataclasses below.
`diffusion` and `networks` never see them: the mathematics takes plain numbers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from mmdjax.config.systems import NO_COMPARISON, Comparison
from mmdjax.config.values import dataclass_from
from mmdjax.errors import UserError
from mmdjax.methods.graph.settings import GRAPH, Graph
from mmdjax.methods.settings import DIFFUSION, Diffusion, with_recipe
from mmdjax.training.settings import MESH, TRAINING, Mesh, Training


@dataclasses.dataclass(frozen=True)
class Data:
    """What is read.

    Attributes:
      name: 'synthetic' (three modalities), 'synthetic_five', 'mmsa' (the field's pickles) or 'file'
        (any layout of docs/your_data.md); of conversations 'synthetic_conversations' or 'gcnet'.
      path: the user's file (mmsa), or file or folder (file, gcnet).
      layout: of `path`, where it is not to be found out, such as 'mmin:3', its third fold (file).
      modalities: 'key:name' for each modality of a user's file, its key there and its name here.
        The order is that of the modality axis, of pattern names and of chained draws.
      classes: labels are 0 to classes - 1; 0 for sentiment (gcnet).
      train, valid, test, seed: sizes and law of the synthetic sets; seed also of the splits of a
        file without any (file).
      length_buckets: latents are cut to the shortest of these lengths that holds the utterance, and
        conversations padded to the shortest that holds all their utterances.
    """

    name: str = "synthetic"
    path: str = ""
    layout: str = ""
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
    as 'name=rate' of `data/missing/gaps.py`, such as 'burst=0.3' (two_stage)."""

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
      comparison: several systems in one run, see `config/systems.py`.
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
    diffusion: Diffusion = DIFFUSION
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
    from mmdjax.config.check import check

    config = dataclass_from(Config, values, "config")
    config = dataclasses.replace(config, diffusion=with_recipe(config.diffusion))
    check(config)
    return config


def to_dict(config: Config) -> dict[str, Any]:
    """Plain JSON-able values, the inverse of `from_dict`."""
    return dataclasses.asdict(config)
