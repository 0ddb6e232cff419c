"""The schedulers of diffusers as samplers of `torch_twin`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.torch_twin import PROCESS


def diffusers_sampler(name: str, steps: int, **options) -> Callable:
    """draw(noise_fn, x) -> x with a scheduler of diffusers, one evaluation a step.

    The scheduler's process is the usual discrete VP of 1000 betas, the discretisation of ours, on
    timesteps from the last one down (spacing 'trailing'); the last step goes to t = 0.

    Args:
      name: 'ddim', or 'dpmpp_2m' for DPM-Solver++ of order 2.
      options: more settings of the scheduler, such as `use_lu_lambdas=True` of 'dpmpp_2m'.

    Returns:
      draw, whose noise_fn takes (x, timestep) with timestep an int in 0..999, see `discrete`.
    """
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

    kinds = {
        "ddim": (DDIMScheduler, {"clip_sample": False}),
        "dpmpp_2m": (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++"}),
    }
    process = {"beta_start": PROCESS.beta_min / 1000, "beta_end": PROCESS.beta_max / 1000}
    process |= {"num_train_timesteps": 1000, "beta_schedule": "linear"}
    kind, own = kinds[name]
    usual = {"prediction_type": "epsilon", "timestep_spacing": "trailing"}
    scheduler = kind(**process | usual | own | options)

    @torch.inference_mode()
    def draw(noise_fn: Callable, x: Tensor) -> Tensor:
        # Every draw: it also clears what a multistep scheduler remembers. Timesteps stay on the
        # host, so that no step waits for the device.
        scheduler.set_timesteps(steps)
        for timestep in scheduler.timesteps.tolist():
            x = scheduler.step(noise_fn(x, timestep), timestep, x, return_dict=False)[0]
        return x

    return draw


def discrete(noise_fn: Callable) -> Callable:
    """noise_fn(x, t), t in (0, 1], as a function of a scheduler's timestep 0..999."""
    return lambda x, timestep: noise_fn(x, (timestep + 1) / 1000)
