"""The tree of all settings. Checked once, then frozen.

Config files return `ml_collections.ConfigDict`; `from_dict` turns one into the dataclasses below.
Settings stand beside the code that reads them; a method's own options form a group of its name.
`diffusion` and `networks` never see any: the mathematics takes plain numbers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from mmdjax.config.check import check
from mmdjax.data.settings import Data, Labels
from mmdjax.errors import UserError
from mmdjax.methods import recipes
from mmdjax.methods.graph.settings import Graph
from mmdjax.methods.method import DEFAULT, registry
from mmdjax.methods.settings import (
    Decoder,
    Diffusion,
    Fusion,
    Latents,
    Score,
    Student,
    with_recipe,
)
from mmdjax.runtime.settings import dataclass_from, field
from mmdjax.training.settings import MESH, STUDENT_TRAINING, TRAINING, Mesh, Training

# Fields of earlier versions -> what to write instead.
RENAMED = {
    "fills": "config.method and config.systems, such as ('zero_trained', 'zero', 'linear_probe')",
    "data.classes": "config.task.kind='classification'",
    "graph.variants": "config.graph.variant, and config.systems for the others",
}


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What is evaluated, and how.

    Attributes:
      draws: K that a prediction averages.
      rates: missing rates of the random protocol.
      batch: rows a compiled call.
      gaps: 'name=rate' of `data/missing/gaps.py`, such as 'burst=0.3'; of 'imbalanced' also a rate
        for each modality, 'imbalanced=0.1,0.4,0.7'.
      as_published: beside each system the report shows what it would reach with the epoch picked on
        test data, as several published systems pick it; everything is trained twice.
    """

    draws: int = field(8, low=1)
    rates: tuple[float, ...] = (0.0, 0.3, 0.5, 0.7)
    batch: int = field(128, low=1)
    gaps: tuple[str, ...] = ()
    as_published: bool = False

    def generators(self) -> list[tuple[str, float, dict[str, Any]]]:
        """Return (name, rate, settings) of each entry of `gaps`; raise `UserError` for a malformed
        one."""
        pairs = [text.partition("=") for text in self.gaps]
        try:
            found = [(name, tuple(map(float, rates.split(",")))) for name, _, rates in pairs]
        except ValueError:
            found = []
        single = all(len(rates) == 1 or name == "imbalanced" for name, rates in found)
        if len(found) < len(pairs) or not single:
            problem = f"config.evaluation.gaps has {', '.join(map(repr, self.gaps))}"
            allowed = "'name=rate', and 'imbalanced=rate,rate,...' with one for each modality"
            raise UserError(f"{problem}; allowed: {allowed}")
        return [
            (name, sum(rates) / len(rates), {"rates": rates} if len(rates) > 1 else {})
            for name, rates in found
        ]


@dataclasses.dataclass(frozen=True)
class System:
    """One row of a comparison: the config with changes.

    Attributes:
      name: in the report.
      changes: 'field=value' of `mmdjax.config.Config`, as on the command line.
      method: of `mmdjax.methods`; '' for the config's.
      published: the method's name in the published tables; '' where they do not have it.
    """

    name: str = ""
    changes: tuple[str, ...] = ()
    method: str = ""
    published: str = ""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Named systems that share the phases they have in common.

    Attributes:
      systems: different names; the first is the one that the others are compared with.
      tables: published ones, as 'thesis 6.1', see `evaluation/published`.
      dataset: whose published numbers are shown.
      complete: averages count the complete pattern, and missing rate 0 (the thesis' tables 6.9 to
        6.12 do, its others do not).
      pictures: utterances in each t-SNE picture of drawn and true latents; 0 draws none.
      iterations, perplexity: of t-SNE.
    """

    systems: tuple[System, ...] = ()
    tables: tuple[str, ...] = ()
    dataset: str = "MOSI"
    complete: bool = True
    pictures: int = field(0, low=0)
    iterations: int = field(5000, low=1)
    perplexity: int = field(8, low=1)


@dataclasses.dataclass(frozen=True)
class _Base:
    """A whole run.

    Attributes:
      title: of the report.
      method: the system that the run is about, of `mmdjax.methods`: two_stage, imder, gsdnet, ...
      systems: what stands beside it, each as 'name field=value ...', a method and changes of this
        config; () for the method's own companions.
      seeds: the run is trained and evaluated once for each.
      rounds: incomplete sets of each training utterance in stage 2.
      training_rate: missing rate of the random protocol at which these are drawn, complete ones
        among them; 0: every incomplete pattern equally often. Beside either, one row in 2^M - 1 of
        a batch is complete.
      comparison: several named systems in one run, in place of `method` and `systems`.
      optimise: False compiles all programs but the draws faster and lets them run slower: for
        trials of minutes, in which compiling is most of the time.
      save_seconds: checkpoints are at least this far apart; the last of a phase is always saved.
      keep_last: so many checkpoints of a phase are kept; each holds the best parameters so far.
      mesh: devices of training; the same numbers come out on any, up to rounding.
    """

    title: str = "mmdjax"
    method: str = field(DEFAULT, names=lambda: tuple(registry()))
    systems: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    rounds: int = field(6, low=1)
    training_rate: float = field(0.0, low=0)
    save_seconds: float = field(30.0, low=0)
    keep_last: int = field(2, low=1)
    optimise: bool = True
    data: Data = Data()
    task: Labels = Labels()
    latents: Latents = Latents()
    fusion: Fusion = Fusion()
    score: Score = Score()
    diffusion: Diffusion = Diffusion()
    student: Student = Student()
    decoder: Decoder = Decoder()
    classifier_training: Training = TRAINING
    score_training: Training = TRAINING
    student_training: Training = STUDENT_TRAINING
    stage2_training: Training = TRAINING
    imder_training: Training = TRAINING
    graph: Graph = Graph()
    evaluation: Evaluation = Evaluation()
    mesh: Mesh = MESH
    comparison: Comparison = Comparison()


def _options() -> list[tuple[str, type, Any]]:
    """Return a group for each class of options, named by the first method that has it."""
    groups: dict[type, str] = {}
    for name, method in registry().items():
        groups.setdefault(method.options, name)
    pairs = ((name, options) for options, name in groups.items() if options is not None)
    return [(name, options, dataclasses.field(default=options())) for name, options in pairs]


if TYPE_CHECKING:
    Config = _Base  # a type checker does not see the groups of methods
else:
    Config = dataclasses.make_dataclass("Config", _options(), bases=(_Base,), frozen=True)
    Config.__doc__, Config.__module__ = _Base.__doc__, __name__


def from_dict(values: Mapping[str, Any]) -> Config:
    """Check a config file's values.

    Raises:
      UserError: an unknown field, a wrong type, a value out of range.
    """
    refuse_renamed(values)
    for group, fields in values.items():
        refuse_renamed([f"{group}.{name}" for name in fields] if hasattr(fields, "items") else ())
    config = dataclass_from(Config, values, "config")
    diffusion = with_recipe(config.diffusion, _recommended(config))
    config = dataclasses.replace(config, diffusion=diffusion)
    check(config)
    return config


def _recommended(config: Config) -> str:
    """Return the recipe that 'fast' stands for: the first that the method can learn, or the last.

    It depends on the method and its other settings, so that one config serves all of a comparison.
    """
    if config.diffusion.recipe != recipes.FAST:
        return ""
    others = recipes.RECOMMENDED[:-1]
    for name in others:
        diffusion = with_recipe(Diffusion(recipe=name))
        given = {field: getattr(diffusion, field) for field in recipes.FIELDS}
        tried = dataclasses.replace(config.diffusion, recipe=name, **given)
        try:
            registry()[config.method].check(dataclasses.replace(config, diffusion=tried))
        except UserError:
            continue
        return name
    return recipes.RECOMMENDED[-1]


def refuse_renamed(names: Iterable[str]) -> None:
    """Raise `UserError` for a field, such as 'data.classes', of an earlier version."""
    for name in names:
        if name in RENAMED:
            raise UserError(f"config.{name} has a new name; allowed: {RENAMED[name]}")


def to_dict(config: Config) -> dict[str, Any]:
    """Return plain JSON-able values, the inverse of `from_dict`."""
    return dataclasses.asdict(config)
