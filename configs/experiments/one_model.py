"""One model for every pattern and every missing rate, against one model for each rate.

Command: python -m mmdjax.main --config=configs/experiments/one_model.py:smoke \\
    --workdir=runs/one_model
Time: `:smoke` 8.8 minutes on two cores, with other work beside it (5.3 of one processor).
Expect: `:smoke` (three seeds) ACC2 over the seven patterns: one model 87.3 ± 0.5 %, trained at 0.3,
0.5 and 0.7: 87.2 ± 1.0, 87.6 ± 0.8 and 87.1 ± 0.8. At the rate that each was trained for, one model
90.1 ± 1.6, 85.5 ± 1.4 and 81.5 ± 0.4, they 89.8 ± 1.5, 86.1 ± 2.0 and 81.8 ± 1.5. No ACC2 is
distinguishable; in MAE the one trained at 0.5 is ahead by a hair, 0.713 ± 0.012 against 0.728 ±
0.009. So a model for each rate is not worth its training here; nor did training at one rate cost
anything at the others that could be told from seeds. Encoders and score networks are common to all.

"One model" meets every incomplete pattern equally often. All systems have the same stage 1, as many
sets and steps, one complete row in seven beside them, and keep the epoch with the lowest validation
error over all patterns.
"""

from configs.experiments import base

RATES = (0.3, 0.5, 0.7)


def get_config(size: str = "smoke"):
    systems = [("one model", "", ())]
    systems += [(f"trained at {rate}", "", (f"training_rate={rate}",)) for rate in RATES]
    config = base.get_config(size, "One model or one for each rate", (), systems, complete=True)
    config.evaluation.rates = tuple(i / 10 for i in range(8))
    if size == "smoke":
        config.seeds = (0, 1, 2)
        config.data.train, config.data.test = 1024, 512
        config.rounds = 6
        config.score_training.epochs = 40
        config.stage2_training.epochs = 20
    return config
