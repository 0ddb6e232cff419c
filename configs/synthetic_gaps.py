"""Frames missing inside modalities, and modalities that fail for a reason: embedded data.

Command: python -m mmdjax.main --config=configs/synthetic_gaps.py --workdir=runs/synthetic_gaps
Time: 8.3 minutes on two cores, beside other work; most of it is compiling.
Expect: in MAE diffusion, K = 8 is ahead of `zero_trained` under all nine kinds of gaps by more than
the deviation over seeds (bursts of 0.6: 0.694 ± 0.008 against 0.767 ± 0.021; optimum 0.472); with
few frames missing (blocks or single frames of 0.3) plain `zero` is as good. In ACC2 they are not
distinguishable.
As `quickstart.py`, with three seeds, zeros to compare with, and the seeded gaps of
`data/missing/gaps.py` beside the patterns of missing modalities. One model serves all of them.
"""

from configs import quickstart

GAPS = ("mcar", "burst", "block")
MODALITIES = ("correlated=0.3", "imbalanced=0.3", "label_dependent=0.3")


def get_config():
    config = quickstart.get_config()
    config.title = "mmdjax under gaps"
    config.seeds = (0, 1, 2)
    config.systems = ("zero_trained", "zero", "linear_probe", "bayes")
    config.evaluation.gaps = (
        *(f"{name}={rate}" for name in GAPS for rate in (0.3, 0.6)),
        *MODALITIES,
    )
    return config
