"""Flow matching beside VP: the same networks and data, other paths and times.

Command: python -m mmdjax.main --config=configs/flow.py --workdir=runs/flow
Time: 6.5 minutes on one core of two that both did other work, three seeds.
Expect: energy distance of draws to the true latents with 8 evaluations 0.021 ± 0.002 of VP, 0.016 ±
0.001 of rectified flow at uniform times, 0.018 ± 0.002 at logit-normal ones; with 4 0.022 ± 0.003,
0.029 ± 0.005 and 0.047 ± 0.014. ACC2 88.7 ± 0.3 %, 88.3 ± 0.2 and 88.1 ± 0.2 with 8; optimum 90.3.

Rectified flow, straight paths from noise to data, whose velocity is matched at uniform times and at
logit-normal ones; each is drawn with 4 and with 8 evaluations, VP as the recipes say.
"""

from configs import synthetic
from configs.experiments import base

FLOW = ("diffusion.sde=rectified_flow", "diffusion.sampler=dpmpp_2m", "diffusion.grid=log_snr")


def get_config():
    config = synthetic.get_config()
    config.seeds = (0, 1, 2)
    config.evaluation.draws, config.diffusion.nfe = 8, 30
    systems = []
    for nfe in (8, 4):
        systems.append((f"VP, {nfe}", "", (f"diffusion.recipe=fast-{nfe}",)))
        for weighting, times in (("velocity", "uniform"), ("logit_normal", "logit-normal")):
            changes = (*FLOW, f"diffusion.weighting={weighting}", f"diffusion.nfe={nfe}")
            systems.append((f"rectified flow, {times}, {nfe}", "", changes))
    base.compare(config, (), systems, complete=True)
    config.title = "Flow matching and VP"
    return config
