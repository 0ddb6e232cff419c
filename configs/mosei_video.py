"""Videos of CMU-MOSEI, one vector a modality and video, from a user's file.

Command: python -m mmdjax.main --config=configs/mosei_video.py --workdir=runs/mosei_video \\
    --config.data.path=FILE
Time: 23 minutes on two cores that did other work as well, three seeds.
Expect: on 600 training videos, MAE averaged over the seven patterns 0.085 ± 0.001 with draws, in
the classifier of complete data, and with zeros in training, 0.086 of the linear probe; correlations
0.409 ± 0.006, 0.412 ± 0.005, 0.421 ± 0.010 and 0.423, which are level: one standard error of a
correlation of 222 videos is 0.05 to 0.07 (docs/incomplete_data.md).
Printed before `fusion.told` and, of sequences, one latent frame were settings of auto.py.

The file holds `language` (N, 768), `acoustic` (N, 39), `vision` (N, 33), `label`, `split` and `id`.
Nearly all labels are above 0: read correlation and MAE, not ACC2.
"""

from configs import auto


def get_config():
    config = auto.get_config()
    config.title = "mmdjax on videos of CMU-MOSEI"
    config.seeds = (0, 1, 2)
    config.data.modalities = ("language:language", "acoustic:acoustic", "vision:vision")
    return config
