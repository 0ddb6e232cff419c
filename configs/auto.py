"""A first model of any file: sizes follow from the data, nothing but path and names is needed.

Command: python -m mmdjax.main --config=configs/auto.py --workdir=runs/mine \\
    --config.data.path=FILE --config.data.modalities="('text:language','audio:acoustic')"
Time: one to five minutes on two cores for sets of hundreds to a few thousand utterances.
Expect: `digits.py`, `mosei_video.py` and `mmmo.py`, which start from it, say what it reaches.

`--mode=inspect --input=FILE` prints the path and the names. Utterances may lack modalities, frames
or labels in every split. Labels are numbers, classes or several of either (docs/labels.md). Sizes
that are 0 here are chosen in mmdjax/config/sizes.py; any of them may be given.
"""

import ml_collections

from mmdjax.config import sizes


def get_config():
    config = ml_collections.ConfigDict(sizes.auto())
    config.title = "mmdjax, a first model"
    config.data.name = "file"
    config.data.modalities = ("text:language", "audio:acoustic", "vision:vision")
    config.systems = ("two_stage_complete", "zero_trained", "linear_probe")
    return config
