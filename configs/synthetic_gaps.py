"""Frames missing inside modalities, and modalities that fail for a reason: embedded data.

Command: python -m mmdjax.main --config=configs/synthetic_gaps.py --workdir=runs/synthetic_gaps
Time: TIME
Expect: EXPECT
As `quickstart.py`, with three seeds, zeros to compare with, and the seeded gaps of `data/gaps.py`
beside the patterns of missing modalities. One model serves all of them.
"""

from configs import quickstart

GAPS = ("mcar", "burst", "block")
MODALITIES = ("correlated=0.3", "imbalanced=0.3", "label_dependent=0.3")


def get_config():
    config = quickstart.get_config()
    config.title = "mmdjax under gaps"
    config.seeds = (0, 1, 2)
    config.fills = ("draws", "zero")
    config.evaluation.gaps = (
        *(f"{name}={rate}" for name in GAPS for rate in (0.3, 0.6)),
        *MODALITIES,
    )
    return config
