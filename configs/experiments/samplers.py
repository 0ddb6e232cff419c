"""Which sampler and how many evaluations, one trained network (thesis tables 6.5 to 6.8).

Command: python -m mmdjax.main --config=configs/experiments/samplers.py:smoke \\
    --workdir=runs/samplers
Time: `:smoke` 3.2 minutes on two cores.
Expect: `:smoke` (two seeds, six incomplete patterns) ACC2 of all fifteen between 81.1 and 83.5 %,
none distinguishable from Euler-Maruyama 100, energy distances 0.029 to 0.044; fast-8 draws 12
times as fast as it (0.078 s against 0.948 for a thousand).
"""

from configs.experiments import base

# name, name in the thesis, sampler, evaluations and the thesis' seconds for them
PUBLISHED = (
    ("Euler-Maruyama", "Euler", "euler_maruyama", {100: 1.17, 80: 0.95, 50: 0.61}),
    ("Predictor-corrector", "PC", "predictor_corrector", {100: 1.17, 80: 0.95, 60: 0.71}),
    ("Heun", "Heun", "heun", {80: 0.95, 60: 0.71, 40: 0.49}),
    ("DDIM", "DDIM", "ddim", {30: 0.37, 20: 0.24, 10: 0.12}),
)
FAST = ("quality-16", "fast-8", "fast-4")


def uniform(sampler: str, nfe: int) -> tuple[str, ...]:
    """The thesis' time grid."""
    return f"diffusion.sampler={sampler}", "diffusion.grid=uniform", f"diffusion.nfe={nfe}"


def get_config(size: str = "smoke"):
    systems = []
    for name, short, sampler, seconds in PUBLISHED:
        for nfe, time in seconds.items():
            theirs = f"VP ScoreTransformer1D {short} NFE={nfe} ({time:.2f} s)"
            systems.append((f"{name} {nfe}", theirs, uniform(sampler, nfe)))
    systems += [(f"{name} (ours)", "", (f"diffusion.recipe={name}",)) for name in FAST]
    title = "Samplers: VP, ScoreTransformer1D"
    return base.get_config(size, title, ("thesis 6.7",), systems)
