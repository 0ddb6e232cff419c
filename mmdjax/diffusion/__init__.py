"""Diffusion without the rest of mmdjax: SDEs, time grids, losses and compiled samplers."""

from mmdjax.diffusion.losses import denoising_score_matching
from mmdjax.diffusion.samplers.loop import Draw, sample
from mmdjax.diffusion.sde import VP
from mmdjax.diffusion.time_grids import time_grid

__all__ = ["VP", "Draw", "denoising_score_matching", "sample", "time_grid"]
