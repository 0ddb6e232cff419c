"""Which SDE: variance exploding or preserving, and IMDer's one stage (thesis tables 6.1, 6.2).

Command: python -m mmdjax.main --config=configs/experiments/sde.py:smoke --workdir=runs/sde
Time: some minutes on two cores (`:smoke`); not measured at its present size yet.
Expect: not measured at this size yet.
"""

from configs.experiments import base


def get_config(size: str = "smoke"):
    unet = base.unet(size)
    systems = (
        ("VP, two stages", "VP U-Net Euler100", ("diffusion.sde=vp", *unet)),
        ("VE, two stages", "VE U-Net Euler100", ("diffusion.sde=ve", *unet)),
        ("IMDer (VE), mended", "IMDer", base.imder(size)),
    )
    title = "SDEs: U-Net, Euler-Maruyama 100"
    return base.get_config(size, title, ("thesis 6.1", "thesis 6.2"), systems)
