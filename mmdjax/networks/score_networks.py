"""The score networks by name. All of them take the arguments of `base.ScoreNetwork`."""

import dataclasses

from mmdjax.networks.dit import DiT
from mmdjax.networks.mmdit import MMDiT
from mmdjax.networks.score_transformer import ScoreTransformer1D
from mmdjax.networks.unet import UNet

REGISTRY = {"score_transformer": ScoreTransformer1D, "unet": UNet, "dit": DiT, "mmdit": MMDiT}

# Thesis 5.2.5, for configs. U-Net: `layers` are those of the transformer at each level.
_TRANSFORMER = {"width": 256, "layers": 6, "heads": 8, "mlp": 512, "time_features": 256}
PUBLISHED = {
    "score_transformer": _TRANSFORMER,
    "unet": _TRANSFORMER | {"layers": 2, "mlp": 1024, "fourier_scale": 30.0},
    "dit": _TRANSFORMER,
    "mmdit": _TRANSFORMER | {"time_features": 128},
}


def fields(name: str) -> set[str]:
    """The sizes that a network has."""
    return {field.name for field in dataclasses.fields(REGISTRY[name])}
