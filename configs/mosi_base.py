"""CMU-MOSI as `mosi_speed.py`, with the published baseline sampler: Euler-Maruyama 100.

Command: python -m mmdjax.main --config=configs/mosi_base.py --workdir=runs/mosi_base \\
    --config.data.path=aligned_50.pkl
Time: not run to the end yet; drawing takes 3.3 times as long as in `mosi_speed.py`, the rest the
same: an estimate is 80 minutes on two cores.
Expect: not measured yet; `mosi_speed.py` is the measured recipe.
"""

from configs import mosi_speed


def get_config(size: str = "compact"):
    config = mosi_speed.get_config(size)
    config.title = f"mmdjax on CMU-MOSI, Euler-Maruyama 100, {size} score networks"
    config.diffusion.sampler = "euler_maruyama"
    config.diffusion.grid = "uniform"
    config.diffusion.nfe = 100
    return config
