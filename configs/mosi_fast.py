"""CMU-MOSI in the field's pickle layout: the recommended recipe, 8 evaluations, cached conditions.

Command: python -m mmdjax.main --config=configs/mosi_fast.py --workdir=runs/mosi_fast \\
    --config.data.path=aligned_50.pkl

As `mosi_speed.py`, with the prefix network (conditions are encoded once a draw), recipe `fast-8`
(DPM-Solver++ 2M on an optimised grid) and 10 epochs of score training instead of 25.
"""

from configs import mosi_speed


def get_config(size: str = "compact"):
    config = mosi_speed.get_config(size)
    config.title = f"mmdjax on CMU-MOSI, fast-8, {size} prefix networks"
    config.score.attention = "prefix"
    config.diffusion.recipe = "fast-8"
    config.score_training.epochs = 10
    return config
