"""Which score network, VP and Euler-Maruyama 100 (thesis table 6.3).

Command: python -m mmdjax.main --config=configs/experiments/networks.py:smoke \\
    --workdir=runs/networks
Time: not measured to the end yet.
Expect: not measured at this size yet.
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
