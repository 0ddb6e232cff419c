"""What each part brings, on the quality setting, Heun 60 (thesis table 6.12, and more).

Command: python -m mmdjax.main --config=configs/experiments/ablations.py:smoke \\
    --workdir=runs/ablations
Time: `:smoke` 2.3 minutes on two cores.
Expect: `:smoke` (two seeds, seven patterns) ACC2 of the full system 83.4 ± 1.3 %, without the
decoder 85.4 ± 0.2 (two points higher), with another weight of the alignment loss, in one stage or
without the chain not distinguishable; without diffusion 88.2 ± 0.4.
"""

from configs.experiments import base
from configs.experiments.samplers import uniform

HEUN = uniform("heun", 60)


def get_config(size: str = "smoke"):
    systems = (
        ("full", "Full", HEUN),
        (
            "without diffusion (zeros, trained)",
            "w/o diffusion",
            (),
            "zero_trained",
        ),
        ("without alignment decoder", "w/o alignment", (*HEUN, "decoder.use=False")),
        ("without alignment loss: weight 0", "", (*HEUN, "decoder.weight=0.0")),
        ("weight 1 instead of 0.2", "", (*HEUN, "decoder.weight=1.0")),
        ("one stage instead of two", "", (*HEUN, "method=imder", "diffusion.coupling=independent")),
        ("drawn independently, not as a chain", "", (*HEUN, "diffusion.coupling=independent")),
    )
    return base.get_config(size, "Ablations: VP, Heun 60", ("thesis 6.12",), systems, complete=True)
