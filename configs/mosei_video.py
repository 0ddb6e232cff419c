"""Videos of CMU-MOSEI, one vector a modality and video, from a user's file.

Command: python -m mmdjax.main --config=configs/mosei_video.py --workdir=runs/mosei_video \\
    --config.data.path=FILE
Time: measured so far on a busy machine only: seven minutes for a seed on two cores.
Expect: on 600 training videos (one seed of `auto.py` at commit b752ca3, before predictions from
each modality alone), correlation averaged over the seven patterns 0.449 with draws, 0.453 where
they go to the classifier of complete data, 0.426 with zeros, 0.423 of the linear probe; one
standard error of a correlation of 222 videos is 0.05 to 0.07.

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
