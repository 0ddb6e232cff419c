"""Ranges that a config's types do not say. Names are checked against their registries."""

from __future__ import annotations

import dataclasses

import numpy as np

from mmdjax.config import Config, Diffusion, Score
from mmdjax.data.formats.contents import LAYOUTS
from mmdjax.data.missing.gaps import FRAMES, observed_frames
from mmdjax.data.missing.patterns import check_rate
from mmdjax.data.pipeline import CONVERSATIONS, SOURCES, SYNTHETIC, modality_names
from mmdjax.diffusion import conditioning, losses, sde, time_grids
from mmdjax.diffusion.samplers import registry
from mmdjax.errors import UserError, choice
from mmdjax.graphs.conversation import BASES
from mmdjax.methods.gsdnet import VARIANTS
from mmdjax.methods.latent.losses import FILLS
from mmdjax.networks import score_networks
from mmdjax.networks.score_transformer import ATTENTION

_FRACTIONS = {"dropout", "attention_dropout", "ema", "unconditional", "frame_gaps"}
_MAY_BE_ZERO = {
    "seed",
    "save_seconds",
    "warmup",
    "weight",
    "weight_decay",
    "nfe",
    "guidance",
    "pictures",
    "classes",
    "past",
    "future",
    "across",
    "data",
    "beta",
    "training_rate",
}


def check(config: Config) -> None:
    """Raises `UserError` for the first value out of range."""
    choice("config.method", config.method, ("two_stage", "imder", "gsdnet"))
    for fill in config.fills:
        choice("config.fills", fill, FILLS)
    if len(set(config.fills)) != max(1, len(config.fills)):
        raise UserError(
            f"config.fills = {config.fills}; allowed: one or more of {FILLS}, each once"
        )
    graph = config.method == "gsdnet"
    choice("config.data.name", config.data.name, tuple(CONVERSATIONS if graph else SOURCES))
    _check_diffusion(config.diffusion)
    if not config.seeds:
        raise UserError("config.seeds is empty; give at least one integer")
    if len(set(config.seeds)) != len(config.seeds) or min(config.seeds) < 0:
        raise UserError(f"config.seeds = {config.seeds}; allowed: different integers from 0")
    for pair in config.data.modalities:
        if not all(pair.rpartition(":")):
            raise UserError(f"config.data.modalities has {pair!r}; allowed: 'key in file:name'")
        if "/" in pair.rpartition(":")[2]:  # parts the names of a model's arrays
            raise UserError(f"config.data.modalities names {pair!r}; allowed: a name without '/'")
    pairs, names = config.data.modalities, config.data.names_by_key()
    if config.data.name in SYNTHETIC:
        if pairs or config.data.path:
            raise UserError(
                "config.data.path and modalities are fixed for synthetic data; drop them"
            )
    elif not 2 <= len(pairs) == len(names) == len(set(names.values())):
        raise UserError(
            f"config.data.modalities = {pairs}; allowed: at least two different 'key in file:name'"
        )
    data = config.data
    known = data.layout.partition(":")[0] if data.layout.startswith("mmin:") else data.layout
    if data.layout and (data.name != "file" or known not in LAYOUTS):
        raise UserError(
            f"config.data.layout = {data.layout!r} with data.name = {data.name!r}; allowed: with "
            f"'file', {', '.join(LAYOUTS)}, mmin:FOLD"
        )
    if data.classes and data.name != "gcnet":
        raise UserError(
            f"config.data.classes = {data.classes} with data.name = {data.name!r}; allowed: gcnet"
        )
    for rate in (*config.evaluation.rates, config.training_rate):
        check_rate(rate, len(modality_names(config.data)))
    if config.training_rate and config.method != "two_stage":
        raise UserError(
            f"config.training_rate = {config.training_rate} with method {config.method!r}; "
            "allowed: two_stage"
        )
    for name, value in _numbers(config, "config"):
        field = name.rsplit(".", 1)[1]
        if field in _FRACTIONS and not 0 <= value < 1:
            raise UserError(f"{name} = {value}; allowed: at least 0 and below 1")
        if value < 0 or (value == 0 and field not in _FRACTIONS | _MAY_BE_ZERO):
            raise UserError(f"{name} = {value}; allowed: a number above 0")
    _check_gaps(config)
    unet = config.score.network == "unet"
    if unet and (config.score.width % 8 or config.score.mlp % 8):
        raise UserError(
            f"config.score: width {config.score.width}, mlp {config.score.mlp}; allowed for unet: "
            "multiples of 8"
        )
    for name, width, heads in (
        # A U-Net's first level has an eighth of the width.
        ("score", config.score.width // (8 if unet else 1), config.score.heads),
        ("latents.channels and fusion", config.latents.channels, config.fusion.heads),
    ):
        if width % heads:
            raise UserError(f"config.{name}: width {width} is not divisible by {heads} heads")
    if config.score.time_features % 2:
        raise UserError(
            f"config.score.time_features = {config.score.time_features}; allowed: an even number"
        )
    choice("config.score.network", config.score.network, tuple(score_networks.REGISTRY))
    choice("config.score.attention", config.score.attention, ATTENTION)
    for name in {"attention", "patch"} - score_networks.fields(config.score.network):
        default = getattr(Score(), name)
        if getattr(config.score, name) != default:
            raise UserError(
                f"config.score.{name} = {getattr(config.score, name)!r} with network "
                f"{config.score.network!r}; allowed: {default!r} (score_transformer has others)"
            )
    if config.diffusion.frame_gaps and not (
        config.method == "two_stage"
        and config.score.network == "score_transformer"
        and config.diffusion.conditioning == "clean"
    ):
        raise UserError(
            f"config.diffusion.frame_gaps = {config.diffusion.frame_gaps} with method "
            f"{config.method!r}, network {config.score.network!r} and conditioning "
            f"{config.diffusion.conditioning!r}; allowed: two_stage, score_transformer and clean"
        )
    buckets = config.data.length_buckets
    if any(length % config.score.patch for length in buckets):
        raise UserError(
            f"config.score.patch = {config.score.patch}; allowed: a number that divides every "
            f"length of data.length_buckets {buckets}"
        )
    if graph:
        _check_graph(config)
    elif (
        not buckets or list(buckets) != sorted(set(buckets)) or buckets[-1] != config.latents.frames
    ):
        raise UserError(
            f"config.data.length_buckets = {buckets}; allowed: increasing lengths that end with "
            f"latents.frames = {config.latents.frames}"
        )


def _check_gaps(config: Config) -> None:
    """Rates are tried on a few samples: training should not end with a refusal."""
    for name, rate in config.evaluation.generators():
        if config.method != "two_stage":
            raise UserError(
                f"config.evaluation.gaps with method {config.method!r}; allowed: two_stage"
            )
        valid = {m: np.ones((4, 8), bool) for m in modality_names(config.data)}
        observed_frames(name, valid, rate, 0, label=np.zeros(4))
        if name in FRAMES and "draws" in config.fills and not config.diffusion.frame_gaps:
            raise UserError(
                f"config.evaluation.gaps has {name!r}, which drops frames, and the score networks "
                "learn whole modalities; give config.diffusion.frame_gaps above 0, such as 0.5"
            )


def _check_graph(config: Config) -> None:
    if config.comparison.systems:
        raise UserError(
            "config.comparison with method 'gsdnet'; allowed: its variants, graph.variants"
        )
    variants, fills, buckets = config.graph.variants, config.fills, config.data.length_buckets
    for name in variants:
        choice("config.graph.variants", name, tuple(VARIANTS))
    if len(set(variants)) != max(1, len(variants)):
        raise UserError(
            f"config.graph.variants = {variants}; allowed: one or more of {tuple(VARIANTS)}, "
            "each once"
        )
    if not set(fills) <= {"draws", "mean"}:
        raise UserError(
            f"config.fills = {fills}; allowed for gsdnet: 'draws', 'mean' (features have mean 0)"
        )
    if not buckets or list(buckets) != sorted(set(buckets)):
        raise UserError(f"config.data.length_buckets = {buckets}; allowed: increasing numbers")
    if config.data.classes == 1:
        raise UserError("config.data.classes = 1; allowed: 0 for sentiment, or at least 2")
    if config.graph.spectrum_width % config.score.heads:
        raise UserError(
            f"config.graph.spectrum_width = {config.graph.spectrum_width}; allowed: a multiple of "
            f"{config.score.heads} heads"
        )
    choice("config.graph.basis", config.graph.basis, tuple(BASES))
    if config.graph.published:
        choice("config.graph.published", config.graph.published, ("MOSI", "MOSEI"))
        if len(config.data.modalities) not in (0, 3):
            raise UserError(
                f"config.graph.published with {len(config.data.modalities)} modalities; allowed: 3"
            )
    if config.diffusion.guidance != 1 or config.diffusion.sampler == "adaptive":
        raise UserError("config.diffusion: gsdnet draws without guidance and with a fixed grid")


def _check_diffusion(diffusion: Diffusion) -> None:
    names = {
        "sde": tuple(sde.REGISTRY),
        "grid": tuple(time_grids.REGISTRY),
        "sampler": registry.names(),
        "conditioning": conditioning.MODES,
        "weighting": tuple(losses.WEIGHTS),
        "coupling": ("chain", "independent"),
        "dtype": ("float32", "bfloat16"),
    }
    for field, allowed in names.items():
        choice(f"config.diffusion.{field}", getattr(diffusion, field), allowed)
    options = diffusion.options()
    registry.make(diffusion.sampler, sde.REGISTRY[diffusion.sde](), None, **options)
    registry.steps_for(diffusion.sampler, diffusion.nfe, **options)
    if diffusion.grid_options:
        sde_ = sde.REGISTRY[diffusion.sde]()
        time_grids.time_grid(diffusion.grid, sde_, 1, **diffusion.grid_arguments())
    if diffusion.guidance != 1 and diffusion.unconditional == 0:
        raise UserError(
            f"config.diffusion.guidance = {diffusion.guidance} needs a network that was trained "
            "without conditions too; give config.diffusion.unconditional above 0, such as 0.1"
        )


def _numbers(group, where: str):
    for field in dataclasses.fields(group):
        value, name = getattr(group, field.name), f"{where}.{field.name}"
        if dataclasses.is_dataclass(value):
            yield from _numbers(value, name)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield name, value
