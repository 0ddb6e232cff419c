"""Which score network, VP and Euler-Maruyama 100 (thesis table 6.3).

Command: python -m mmdjax.main --config=configs/experiments/networks.py:smoke \\
    --workdir=runs/networks
Time: `:smoke` 3.0 minutes on two cores, after `sde.py:smoke`, whose U-Net programs it shares.
Expect: `:smoke` (two seeds, six incomplete patterns) ACC2 of DiT and MMDiT 86.7 ± 3.0 and 85.4 ±
1.2 %, of the others 82.0 to 82.7; energy distance of the U-Net 0.102, of DiT 0.054, of the rest
below 0.04. At this size: tiny networks and few steps say little of the published ones.
"""

from configs.experiments import base

JOINT = ("diffusion.recipe=imder", "score.attention=joint")


def get_config(size: str = "smoke"):
    systems = (
        ("ScoreTransformer1D", "VP ScoreTransformer1D Euler100", JOINT),
        ("ScoreTransformer1D, prefix", "", ("diffusion.recipe=imder", "score.attention=prefix")),
        ("U-Net", "VP U-Net Euler100", base.unet(size)),
        ("DiT", "VP DiT Euler100", (*JOINT, "score.network=dit")),
        ("MMDiT", "VP MMDiT Euler100", (*JOINT, "score.network=mmdit")),
    )
    title = "Score networks: VP, Euler-Maruyama 100"
    # The U-Net's numbers stand in table 6.1.
    return base.get_config(size, title, ("thesis 6.3", "thesis 6.1"), systems)
