"""The two recommended settings against IMDer and against filling (thesis tables 6.9 to 6.11).

Command: python -m mmdjax.main --config=configs/experiments/sota.py:smoke --workdir=runs/sota
Time: `:smoke` 2.7 minutes on two cores, after `sde.py:smoke`, whose IMDer programs it shares.
Expect: `:smoke` (two seeds, seven patterns) ACC2 of DDIM 30 84.8 ± 0.2 %, fast-8 85.0 ± 1.0, with
eight draws averaged 87.3 ± 0.4, IMDer 75.3 ± 3.7; without diffusion, trained on zeros 88.2 ± 0.4
and on means 88.4 ± 0.6. Drawing does not help the prediction at this size.
`:real` on CMU-MOSI (other features than the published ones), three seeds: fast-8 67.3 ± 1.4, IMDer
67.5 ± 1.4, means 68.4 ± 2.5, all of it in benchmarks/results/mosi; some hours on two cores.
"""

from configs.experiments import base
from configs.experiments.samplers import uniform

FAST = ("diffusion.recipe=fast-8", "evaluation.draws=8")


def get_config(size: str = "smoke"):
    systems = (
        ("Speed: DDIM 30", "Speed", uniform("ddim", 30)),
        ("Quality: Heun 60", "Quality", uniform("heun", 60)),
        ("Euler-Maruyama 100", "", uniform("euler_maruyama", 100)),
        ("fast-8 (ours)", "", (FAST[0], "evaluation.draws=1")),
        ("fast-8, 8 draws averaged (ours)", "", FAST),
        ("IMDer, mended", "IMDer", base.imder(size)),
        ("MMIN", "MMIN", (), "mmin"),
        ("no diffusion: zeros, trained", "", (), "zero_trained"),
        ("no diffusion: means, trained", "", (), "mean_trained"),
        ("zeros", "", (), "zero"),
        ("means", "", (), "mean"),
    )
    tables = ("thesis 6.11", "thesis 6.10")
    return base.get_config(size, "State of the art", tables, systems, complete=True)
