"""Rules that join several groups of a config; bounds of single fields stand at the fields."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mmdjax.data.formats.contents import LAYOUTS
from mmdjax.data.missing.gaps import observed_frames
from mmdjax.data.missing.patterns import check_rate, is_possible
from mmdjax.data.pipeline import SOURCES, modality_names
from mmdjax.data.settings import Data, Labels
from mmdjax.diffusion import sde, time_grids
from mmdjax.diffusion.samplers import registry
from mmdjax.errors import UserError, choice, require
from mmdjax.methods.settings import Diffusion, Score
from mmdjax.networks import score_networks
from mmdjax.runtime.settings import is_auto

if TYPE_CHECKING:
    from mmdjax.config import Config


def check(config: Config) -> None:
    """Raise `UserError` for the first combination of values that cannot work.

    Args:
      config: `mmdjax.config.Config`.
    """
    seeds = config.seeds
    if not seeds:
        raise UserError("config.seeds is empty; give at least one integer")
    different = len(set(seeds)) == len(seeds) and min(seeds) >= 0
    require(different, f"config.seeds = {seeds}", "different integers from 0")
    _check_data(config.data, config.task)
    _check_diffusion(config.diffusion)
    names = modality_names(config.data)
    check_rate(config.training_rate, len(names), "config.training_rate")
    rates, where = config.evaluation.rates, "config.evaluation.rates holds"
    for rate in rates:
        require(0 <= rate < 1, f"{where} {rate}", "from 0 to below 1")
    if rates and not any(is_possible(rate, len(names)) for rate in rates):
        check_rate(rates[0], len(names), where)  # where some are possible, others are left out
    # Every generator on a few samples, so that training does not end with a refusal.
    for name, rate, settings in config.evaluation.generators():
        valid = {m: np.ones((4, 8), bool) for m in names}
        observed_frames(name, valid, rate, 0, label=np.zeros(4), **settings)
    _check_networks(config)


def _check_data(data: Data, task: Labels) -> None:
    choice("config.data.name", data.name, tuple(SOURCES))
    source, where = SOURCES[data.name], "config.data.modalities"
    for pair in data.modalities:
        require(all(pair.rpartition(":")), f"{where} has {pair!r}", "'key in file:name'")
        # A slash separates the parts of names in a model's arrays.
        require("/" not in pair.rpartition(":")[2], f"{where} names {pair!r}", "a name without '/'")
    names = data.names_by_key()
    if source.synthetic and (data.modalities or data.path):
        raise UserError("config.data.path and modalities are fixed for synthetic data; drop them")
    require(
        source.synthetic or 2 <= len(data.modalities) == len(names) == len(set(names.values())),
        f"{where} = {data.modalities}",
        "at least two different 'key in file:name'",
    )
    layout = data.layout.partition(":")[0] if data.layout.startswith("mmin:") else data.layout
    require(
        not data.layout or (data.name == "file" and layout in LAYOUTS),
        f"config.data.layout = {data.layout!r} with data.name = {data.name!r}",
        f"with 'file', {', '.join(LAYOUTS)}, mmin:FOLD",
    )
    buckets = data.length_buckets
    increasing = list(buckets) == sorted(set(buckets)) and min(buckets, default=1) >= 1
    require(increasing, f"config.data.length_buckets = {buckets}", "increasing lengths")
    choice(f"config.data.labels of {data.name!r}", data.labels, source.labels)
    allowed = "low below high, or both 0 to read the range from the training labels"
    require(task.low <= task.high, f"config.task: low {task.low:g}, high {task.high:g}", allowed)
    different = len(set(task.names)) == len(task.names)
    require(different, f"config.task.names = {task.names}", "different names")


def _check_networks(config: Config) -> None:
    score, buckets = config.score, config.data.length_buckets
    unet = score.network == "unet"
    if not buckets or is_auto(score) or is_auto(config.latents) or is_auto(config.fusion):
        return  # checked with the sizes that the data ask for
    eighths = score.width % 8 == 0 == score.mlp % 8
    sizes = f"config.score: width {score.width}, mlp {score.mlp}"
    require(eighths or not unet, sizes, "for unet: multiples of 8")
    for name, width, heads in (
        # A U-Net's first level has an eighth of the width.
        ("score", score.width // (8 if unet else 1), score.heads),
        ("latents.channels and fusion", config.latents.channels, config.fusion.heads),
    ):
        if width % heads:
            raise UserError(f"config.{name}: width {width} is not divisible by {heads} heads")
    features = score.time_features
    require(features % 2 == 0, f"config.score.time_features = {features}", "an even number")
    for name in {"attention", "patch"} - score_networks.fields(score.network):
        value, default = getattr(score, name), getattr(Score(), name)
        problem = f"config.score.{name} = {value!r} with network {score.network!r}"
        require(value == default, problem, f"{default!r} (score_transformer has others)")
    require(
        not any(length % score.patch for length in buckets),
        f"config.score.patch = {score.patch}",
        f"a number that divides every length of data.length_buckets {buckets}",
    )


def _check_diffusion(diffusion: Diffusion) -> None:
    options, process = diffusion.options(), sde.REGISTRY[diffusion.sde]()
    registry.make(diffusion.sampler, process, None, **options)
    registry.steps_for(diffusion.sampler, diffusion.nfe, **options)
    if diffusion.grid_options:
        time_grids.time_grid(diffusion.grid, process, 1, **diffusion.grid_arguments())
    if diffusion.guidance != 1 and diffusion.unconditional == 0:
        raise UserError(
            f"config.diffusion.guidance = {diffusion.guidance} needs a network that was trained "
            "without conditions too; give config.diffusion.unconditional above 0, such as 0.1"
        )
