"""Rules that join several groups of a config; bounds of single fields stand at the fields."""

from __future__ import annotations

import numpy as np

from mmdjax.data.formats.contents import LAYOUTS
from mmdjax.data.missing.gaps import observed_frames
from mmdjax.data.missing.patterns import check_rate
from mmdjax.data.pipeline import SOURCES, modality_names
from mmdjax.diffusion import sde, time_grids
from mmdjax.diffusion.samplers import registry
from mmdjax.errors import UserError, choice
from mmdjax.methods.settings import Diffusion, Score
from mmdjax.networks import score_networks


def check(config) -> None:
    """Raise `UserError` for the first combination of values that cannot work.

    Args:
      config: `mmdjax.config.Config`.
    """
    if not config.seeds:
        raise UserError("config.seeds is empty; give at least one integer")
    if len(set(config.seeds)) != len(config.seeds) or min(config.seeds) < 0:
        raise UserError(f"config.seeds = {config.seeds}; allowed: different integers from 0")
    _check_data(config.data, config.task)
    _check_diffusion(config.diffusion)
    names = modality_names(config.data)
    for rate in (*config.evaluation.rates, config.training_rate):
        check_rate(rate, len(names))
    # Every generator on a few samples, so that training does not end with a refusal.
    for name, rate in config.evaluation.generators():
        observed_frames(name, {m: np.ones((4, 8), bool) for m in names}, rate, 0, label=np.zeros(4))
    _check_networks(config)


def _check_data(data, task) -> None:
    choice("config.data.name", data.name, tuple(SOURCES))
    source = SOURCES[data.name]
    for pair in data.modalities:
        if not all(pair.rpartition(":")):
            raise UserError(f"config.data.modalities has {pair!r}; allowed: 'key in file:name'")
        if "/" in pair.rpartition(":")[2]:  # separates the parts of names in a model's arrays
            raise UserError(f"config.data.modalities names {pair!r}; allowed: a name without '/'")
    names = data.names_by_key()
    if source.synthetic:
        if data.modalities or data.path:
            raise UserError(
                "config.data.path and modalities are fixed for synthetic data; drop them"
            )
    elif not 2 <= len(data.modalities) == len(names) == len(set(names.values())):
        raise UserError(
            f"config.data.modalities = {data.modalities}; allowed: at least two different "
            "'key in file:name'"
        )
    layout = data.layout.partition(":")[0] if data.layout.startswith("mmin:") else data.layout
    if data.layout and (data.name != "file" or layout not in LAYOUTS):
        raise UserError(
            f"config.data.layout = {data.layout!r} with data.name = {data.name!r}; allowed: with "
            f"'file', {', '.join(LAYOUTS)}, mmin:FOLD"
        )
    buckets = data.length_buckets
    if not buckets or list(buckets) != sorted(set(buckets)) or buckets[0] < 1:
        raise UserError(f"config.data.length_buckets = {buckets}; allowed: increasing lengths")
    choice(f"config.data.labels of {data.name!r}", data.labels, source.labels)
    if task.low > task.high:
        raise UserError(
            f"config.task: low {task.low:g}, high {task.high:g}; allowed: low below high, or both "
            "0 to read the range from the training labels"
        )
    if len(set(task.names)) != len(task.names):
        raise UserError(f"config.task.names = {task.names}; allowed: different names")


def _check_networks(config) -> None:
    score, unet = config.score, config.score.network == "unet"
    if unet and (score.width % 8 or score.mlp % 8):
        raise UserError(
            f"config.score: width {score.width}, mlp {score.mlp}; allowed for unet: multiples of 8"
        )
    for name, width, heads in (
        # A U-Net's first level has an eighth of the width.
        ("score", score.width // (8 if unet else 1), score.heads),
        ("latents.channels and fusion", config.latents.channels, config.fusion.heads),
    ):
        if width % heads:
            raise UserError(f"config.{name}: width {width} is not divisible by {heads} heads")
    if score.time_features % 2:
        raise UserError(
            f"config.score.time_features = {score.time_features}; allowed: an even number"
        )
    for name in {"attention", "patch"} - score_networks.fields(score.network):
        value, default = getattr(score, name), getattr(Score(), name)
        if value != default:
            raise UserError(
                f"config.score.{name} = {value!r} with network {score.network!r}; allowed: "
                f"{default!r} (score_transformer has others)"
            )
    buckets = config.data.length_buckets
    if any(length % score.patch for length in buckets):
        raise UserError(
            f"config.score.patch = {score.patch}; allowed: a number that divides every length of "
            f"data.length_buckets {buckets}"
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
