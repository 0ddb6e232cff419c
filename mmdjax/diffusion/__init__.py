"""Diffusion without the rest of mmdjax: SDEs, time grids, losses and compiled samplers."""

from mmdjax.diffusion.losses import denoising_score_matching
from mmdjax.diffusion.predictions import as_noise, convert
from mmdjax.diffusion.samplers.loop import Draw, sample
from mmdjax.diffusion.sde import EDM, VE, VP, RectifiedFlow, SubVP, VEGeometric, VPCosine
from mmdjax.diffusion.time_grids import time_grid

__all__ = [
    "EDM",
    "VE",
    "VP",
    "Draw",
    "RectifiedFlow",
    "SubVP",
    "VEGeometric",
    "VPCosine",
    "as_noise",
    "convert",
    "denoising_score_matching",
    "sample",
    "time_grid",
]
