"""Which SDE: variance exploding or preserving, and IMDer's one stage (thesis tables 6.1, 6.2).

Command: python -m mmdjax.main --config=configs/experiments/sde.py:smoke --workdir=runs/sde
Time:
Expect:
"""

from configs.experiments import base

UNET = (
    "score.network=unet",
    "score.attention=joint",
    "score.layers=2",
    "score.fourier_scale=30.0",
    "diffusion.recipe=imder",
)
IMDER = ("method=imder", "diffusion.sde=ve", "diffusion.coupling=independent", *UNET)


def get_config(size: str = "smoke"):
    systems = (
        ("VP, two stages", "VP U-Net Euler100", ("diffusion.sde=vp", *UNET)),
        ("VE, two stages", "VE U-Net Euler100", ("diffusion.sde=ve", *UNET)),
        ("IMDer (VE), mended", "IMDer", IMDER),
    )
    title = "SDEs: U-Net, Euler-Maruyama 100"
    return base.get_config(size, title, ("thesis 6.1", "thesis 6.2"), systems)
