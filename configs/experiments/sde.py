"""Which SDE: variance exploding or preserving, and IMDer's one stage (thesis tables 6.1, 6.2).

Command: python -m mmdjax.main --config=configs/experiments/sde.py:smoke --workdir=runs/sde
Time: `:smoke` 3.7 minutes on two cores, from an empty cache of programs.
Expect: `:smoke` (two seeds, six incomplete patterns) ACC2 of VP and VE 82.7 ± 1.1 and 83.0 ± 0.1
%, not distinguishable; IMDer 73.0 ± 3.6, five short epochs in which everything is learned at
once.
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
