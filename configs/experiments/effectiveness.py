"""What samplers draw with few and many evaluations, as t-SNE pictures (thesis figures 6.1 to 6.4).

Command: python -m mmdjax.main --config=configs/experiments/effectiveness.py:smoke \\
    --workdir=runs/effectiveness
Time: `:smoke` 4.7 minutes on two cores, with other work beside it.
Expect: `:smoke` (one seed) energy distance to the true latents 0.041 to 0.043 for Euler-Maruyama
and predictor-corrector, 0.033 to 0.034 for Heun, 0.026 to 0.030 for DDIM; a nearest neighbour
tells draws given language from truth in 50 to 55 % of cases. One seed says nothing of accuracy.
"""

from configs.experiments import base
from configs.experiments.samplers import PUBLISHED, uniform

DDIM = (10, 20, 30, 40)


def get_config(size: str = "smoke"):
    systems = [
        (f"{name} {nfe}", "", uniform(sampler, nfe))
        for name, _, sampler, seconds in PUBLISHED
        for nfe in (DDIM if sampler == "ddim" else seconds)
    ]
    for nfe in DDIM:
        systems.append((f"DDIM {nfe}, raw", "", (*uniform("ddim", nfe), "decoder.use=False")))
    title = "Sampling effectiveness: VP, ScoreTransformer1D"
    config = base.get_config(size, title, (), systems)
    config.comparison.pictures = 500
    if size == "smoke":
        config.seeds = (0,)
        config.comparison.pictures = 100
        config.comparison.iterations = 500
    return config
