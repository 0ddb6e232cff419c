"""Reviews of ICT-MMMO, of which few have their language, from a user's file.

Command: python -m mmdjax.main --config=configs/mmmo.py --workdir=runs/mmmo --config.data.path=FILE
Time: 22 minutes on one of two cores, five seeds.
Expect: averaged over the seven patterns, correlations of 0.27 ± 0.06 with draws, 0.29 ± 0.02 where
they go to the classifier of complete data, 0.29 ± 0.04 of zeros in training, 0.29 of the linear
probe; one standard error of a correlation of 60 reviews is 0.13. MAE 1.17 ± 0.05, 1.16 ± 0.06, 1.21
± 0.04 and 1.29. To compare with the 40 complete ones alone, give --config.data.incomplete=False.
Printed before `fusion.told` and, of sequences, one latent frame were settings of auto.py.

The file holds `language` (N, 20, 300), `acoustic` (N, 20, 74), `vision` (N, 20, 36), `label` from 1
to 5, `split` and `id`. Language is missing in 220 of 260 training reviews; all are used.
"""

from configs import auto


def get_config():
    config = auto.get_config()
    config.title = "mmdjax on ICT-MMMO"
    config.seeds = (0, 1, 2, 3, 4)
    config.data.modalities = ("language:language", "acoustic:acoustic", "vision:vision")
    return config
