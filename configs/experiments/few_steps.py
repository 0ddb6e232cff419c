"""One to eight evaluations of a draw: solvers, and networks that learn to need fewer.

Command: python -m mmdjax.main --config=configs/experiments/few_steps.py:smoke --workdir=runs/few
Time: `:smoke` 7 minutes, `:synthetic` 35, `:video` 54, each on one core of two that both worked;
`:digits` 107 and `:real` 140, beside much other work.
Expect: `:synthetic` (five seeds), energy distance of draws to the true latents 0.011 ± 0.001 of one
evaluation by the energy score, 0.015 ± 0.001 of two by a learned solver, 0.021 ± 0.002 of fast-8,
0.034 ± 0.002 of Euler-Maruyama 100, 0.172 ± 0.007 of the conditional mean; `:smoke` (two seeds,
short training) 0.031 ± 0.006, 0.034 ± 0.004, 0.036 ± 0.003, 0.036 ± 0.001 and 0.254 ± 0.006;
`:video` (three seeds) 0.012 ± 0.004, 0.012 ± 0.003, 0.039 ± 0.003, 0.048 ± 0.002 and 0.192 ±
0.000; `:digits` (three seeds) 0.004 ± 0.000, 0.004 ± 0.001, 0.024 ± 0.001, 0.035 ± 0.002 and 0.048
± 0.003; `:real` (CMU-MOSI, three seeds) 0.029 ± 0.003, 0.024 ± 0.001, 0.040 ± 0.001, 0.046 ± 0.002
and 0.312 ± 0.005. `:real` takes --config.data.path=aligned_50.pkl.
ACC2, MAE and accuracy of none can be told from those of fast-8.
`:video` and `:digits` were printed before `fusion.told` was a setting of auto.py.

`:smoke` and `:synthetic` have embedded utterances; `:digits`, `:video` and `:real` are those of
`sota.py`, with the settings of `configs/auto.py`. docs/performance.md describes the students.
"""

from configs import synthetic
from configs.experiments import base
from configs.experiments.samplers import uniform

TITLES = {"smoke": "synthetic, small"} | base.SETS
SIZES = tuple(TITLES)


def base_of(sampler: str) -> tuple[str, ...]:
    return f"diffusion.sampler={sampler}", "diffusion.grid=log_snr"


def student(name: str, nfe: int) -> tuple[str, ...]:
    sampler = "dpmpp_2m" if name == "solver" else "ddim"
    return *base_of(sampler), f"diffusion.nfe={nfe}", f"diffusion.student={name}"


def get_config(size: str = "smoke"):
    if size not in SIZES:
        raise ValueError(f"size {size!r} is unknown; allowed: {', '.join(SIZES)}")
    config = base.smoke() if size == "smoke" else base.on_set(size)
    if size == "synthetic":
        config = synthetic.get_config()
        config.seeds = (0, 1, 2, 3, 4)
        config.diffusion.nfe = 30  # the default, which recipes may replace
    if size == "smoke":
        config.student_training.epochs = 10
    config.evaluation.draws = 8
    systems = (
        ("fast-8", "", ("diffusion.recipe=fast-8",)),
        ("Euler-Maruyama 100", "", uniform("euler_maruyama", 100)),
        ("solver 2 (fast-2)", "", student("solver", 2)),
        ("energy 1 (fast-1)", "", student("energy", 1)),
        ("energy 2", "", student("energy", 2)),
        ("progressive 2", "", student("progressive", 2)),
        ("progressive 1", "", student("progressive", 1)),
        ("shortcut 2", "", student("shortcut", 2)),
        ("shortcut 1", "", student("shortcut", 1)),
        ("conditional mean", "", student("mean", 1)),
        ("zeros, trained", "", (), "zero_trained"),
    )
    if size in ("smoke", "synthetic"):
        systems += (
            ("fast-4", "", ("diffusion.recipe=fast-4",)),
            ("DPM-Solver++ 2", "", (*base_of("dpmpp_2m"), "diffusion.nfe=2")),
            ("solver 4", "", student("solver", 4)),
            ("energy 4", "", student("energy", 4)),
            ("progressive 4", "", student("progressive", 4)),
            ("shortcut 4", "", student("shortcut", 4)),
        )
    base.compare(config, (), systems, complete=True)
    config.title = f"Few evaluations, {TITLES[size]}"
    return config
