"""The score network and sampler of a reader's own clone of IMDer's public repository.

Only `trains/singleTask/model/scoremodel.py` and what it imports is executed, as it stands; the
toolkit around it, with its own requirements, is not. Nothing of it is part of mmdjax.
"""

from __future__ import annotations

import importlib
import math
import sys
import types
from collections.abc import Callable
from pathlib import Path

from mmdjax.errors import require

MODULE = "trains.singleTask.model.scoremodel"
SIGMA = 25.0  # of the repository's VE process, std^2 = (sigma^2t - 1) / (2 log sigma)
CHANNELS, FRAMES = 32, 48
EVALUATIONS = 100


def load(checkout: str):
    """Return the module of the score network.

    Raises:
      UserError: a folder that does not hold it.
    """
    root = Path(checkout)
    file = root / Path(*MODULE.split(".")).with_suffix(".py")
    require(file.is_file(), f"--imder={checkout}", "a clone of IMDer's repository, with trains/")
    # Packages without their __init__, which import the whole toolkit.
    for depth in range(1, len(MODULE.split("."))):
        name = ".".join(MODULE.split(".")[:depth])
        package = types.ModuleType(name)
        package.__path__ = [str(root / Path(*name.split(".")))]
        sys.modules[name] = package
    for name in ("trains.subNets", "trains.subNets.transformers_encoder"):
        package = types.ModuleType(name)
        package.__path__ = [str(root / Path(*name.split(".")))]
        sys.modules[name] = package
    return importlib.import_module(MODULE)


def draw_call(checkout: str, batch: int) -> Callable:
    """Return () -> a whole draw of one modality, by the repository's sampler and defaults, on a GPU
    where there is one. Weights are those it starts with: time does not depend on them."""
    import torch

    module = load(checkout)
    device = "cuda" if torch.cuda.is_available() else "cpu"

    def std(t):
        return torch.sqrt((SIGMA ** (2 * t) - 1) / (2 * math.log(SIGMA)))

    def coefficient(t):
        return SIGMA**t

    torch.manual_seed(0)
    network = module.ScoreNet(marginal_prob_std=std).to(device).eval()
    condition = torch.randn(batch, CHANNELS, FRAMES, device=device)
    settings = {"batch_size": batch, "device": device, "condition": condition}

    def draw():
        return module.Euler_Maruyama_sampler(network, std, coefficient, **settings).cpu()

    return draw
