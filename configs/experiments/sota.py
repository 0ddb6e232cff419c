"""The two recommended settings against IMDer and against filling (thesis tables 6.9 to 6.11).

Command: python -m mmdjax.main --config=configs/experiments/sota.py:smoke --workdir=runs/sota
Time: `:smoke` 2.7 minutes on two cores from an empty cache.
Expect: `:smoke` (two seeds, seven patterns) ACC2 of DDIM 30 82.7 ± 1.4 %, fast-8 83.0 ± 0.3, with
eight draws averaged 88.3 ± 1.3, IMDer 80.4 ± 0.5, MMIN 93.1 ± 0.7; without diffusion, trained on
zeros 88.3 ± 0.6 and on means 88.3 ± 0.0. MMIN has several times the others' epochs.
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
