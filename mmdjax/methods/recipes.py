"""Named ways to draw: the solver and time grid for a number of evaluations.

The `fast` and `quality` grids are `time_grids.optimised` for its default spectrum, written down:
the search takes seconds, which a start should not. `tests/numerics/test_recipes.py` holds them to
it. `fast-1` has networks that learned to need no more, `fast-2` a solver that was learned for its
networks (`latent/students`). `thesis-*` and `imder` are the published settings, on their uniform
grid. `fast` stands for the first of `RECOMMENDED` that a method and its settings allow.
"""

from __future__ import annotations


def _dpmpp_2m(nfe: int, warp: str) -> dict:
    grid = {"grid": "log_snr", "grid_options": (f"warp={warp}",)}
    return {"sampler": "dpmpp_2m", "nfe": nfe} | grid


def _student(nfe: int, student: str, sampler: str) -> dict:
    return {"sampler": sampler, "nfe": nfe, "grid": "log_snr", "student": student}


# name -> fields of `mmdjax.config.Diffusion`.
RECIPES = {
    "fast-1": _student(1, "energy", "ddim"),
    "fast-2": _student(2, "solver", "dpmpp_2m"),
    "fast-4": _dpmpp_2m(4, "0.11957,0.39051,0.04039,0.24297"),
    "fast-8": _dpmpp_2m(8, "0.30128,0.13055,0.04554,0.08499"),
    "quality-16": _dpmpp_2m(16, "0.45766,0.04464,0.02200,0.01038"),
    "thesis-speed": {"sampler": "ddim", "grid": "uniform", "nfe": 30},
    "thesis-quality": {"sampler": "heun", "grid": "uniform", "nfe": 60},
    "imder": {"sampler": "euler_maruyama", "grid": "uniform", "nfe": 100},
}
RECOMMENDED = ("fast-2", "fast-8")
FAST = "fast"  # one of them
FIELDS = ("sampler", "sampler_options", "grid", "grid_options", "nfe", "student")
