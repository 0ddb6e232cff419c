"""Frames missing inside modalities on CMU-MOSI, by the recommended recipe.

Command: python -m mmdjax.main --config=configs/mosi_gaps.py --workdir=runs/mosi_gaps \\
    --config.data.path=aligned_50.pkl
Time: not measured yet.
Expect: not measured yet.
As `mosi_fast.py`, with score networks that learn gaps (docs/gaps.md), zeros to compare with, and
gaps of single frames, bursts and blocks beside the patterns of missing modalities.
"""

from configs import mosi_fast

GAPS = ("mcar", "burst", "block")


def get_config(size: str = "compact"):
    config = mosi_fast.get_config(size)
    config.title = f"mmdjax on CMU-MOSI under gaps, fast-8, {size} networks"
    config.fills = ("draws", "zero")
    config.diffusion.frame_gaps = 0.5
    config.evaluation.rates = (0.0, 0.5)
    config.evaluation.gaps = tuple(f"{name}={rate}" for name in GAPS for rate in (0.3, 0.6))
    return config
