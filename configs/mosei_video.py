"""Videos of CMU-MOSEI, one vector a modality and video, from a user's file.

Command: python -m mmdjax.main --config=configs/mosei_video.py --workdir=runs/mosei_video \\
    --config.data.path=FILE
Time: 23 minutes on two cores that did other work as well, three seeds.
Expect: on 600 training videos, correlation averaged over the seven patterns 0.422 ± 0.013 with
draws, 0.424 ± 0.020 where they go to the classifier of complete data, 0.423 ± 0.009 with zeros in
training, 0.423 of the linear probe, which is ahead where language is seen, and behind without; one
standard error of a correlation of 222 videos is 0.05 to 0.07. Over divisions of all videos they are
level (docs/incomplete_data.md).

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
