"""CMU-MOSI, published baseline sampler."""

from configs import mosi_speed


def get_config(size: str = "compact"):
    config = mosi_speed.get_config(size)
    config.title = f"mmdjax on CMU-MOSI, Euler-Maruyama 100, {size} score networks"
    config.diffusion.sampler = "euler_maruyama"
    config.diffusion.grid = "uniform"
    config.diffusion.steps = 100
    return config
