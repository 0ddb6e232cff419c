"""Frames missing inside modalities on CMU-MOSI, by the recommended recipe.

Command: python -m mmdjax.main --config=configs/mosi_gaps.py --workdir=runs/mosi_gaps \\
    --config.data.path=aligned_50.pkl
Time: 41.9 minutes on two cores, beside other work, one seed.
Expect: no gain. Under all six kinds of gaps `zero` (the classifier of complete data on what is
left) and `zero_trained` are ahead of diffusion, K = 8 in MAE (bursts of 0.6: 1.088 and 1.100
against 1.189), and in ACC2 where single frames are missing (0.6: 76.8 and 75.6 % against 68.9,
draws into the classifier of complete data 70.6; one standard error is 1.7 points). Draws have the
right distribution: energy distance 0.008 to 0.022, zeros 0.262 to 0.280.
As `mosi_fast.py`, with `fast-8`, score networks that learn gaps (docs/gaps.md), zeros to compare
with, and gaps of single frames, bursts and blocks beside the patterns of missing modalities.
"""

from configs import mosi_fast

GAPS = ("mcar", "burst", "block")


def get_config(size: str = "compact"):
    config = mosi_fast.get_config(size)
    config.title = f"mmdjax on CMU-MOSI under gaps, fast-8, {size} networks"
    config.systems = ("zero_trained", "zero", "linear_probe")
    config.diffusion.recipe = "fast-8"
    config.diffusion.frame_gaps = 0.5
    config.evaluation.rates = (0.0, 0.5)
    config.evaluation.gaps = tuple(f"{name}={rate}" for name in GAPS for rate in (0.3, 0.6))
    return config
