"""Warps of the optimised grid, found once for the table of errors: warps.json, by SDE and sampler.

`python -m tests.numerics.warps` searches them again (some minutes).
"""

import json
from pathlib import Path

from mmdjax.diffusion import sde as sdes
from mmdjax.diffusion.samplers import registry
from mmdjax.diffusion.time_grids import find_warp

# Unit variance altogether, a narrow and a wide direction.
MEAN, VARIANCE = (0.8, -0.3, 0.1), (1.0, 0.25, 0.05)
FILE = Path(__file__).with_suffix(".json")
SDES = {name: kind() for name, kind in sdes.REGISTRY.items()}


def samplers(sde) -> list[str]:
    return [m for m in registry.names() if m != "adaptive" and registry.supports(m, sde)]


def steps(method: str, sde) -> int:
    """Of 10 evaluations."""
    return 10 // registry.make(method, sde, None).nfe


def stored() -> dict[str, dict[str, tuple[float, ...]]]:
    read = json.loads(FILE.read_text())
    return {name: {m: tuple(w) for m, w in warps.items()} for name, warps in read.items()}


def search() -> dict[str, dict[str, list[float]]]:
    return {
        name: {
            m: [round(c, 4) for c in find_warp(sde, steps(m, sde), m, MEAN, VARIANCE)]
            for m in samplers(sde)
        }
        for name, sde in SDES.items()
    }


def text(warps) -> str:
    """JSON with a line for each sampler."""
    parts = []
    for name, own in warps.items():
        lines = ",\n".join(f'    "{method}": {json.dumps(warp)}' for method, warp in own.items())
        parts.append(f'  "{name}": {{\n{lines}\n  }}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    FILE.write_text(text(search()))
