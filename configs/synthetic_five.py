"""Five modalities, thirty-one availability patterns, on embedded data with exact answers.

Command: python -m mmdjax.main --config=configs/synthetic_five.py --workdir=runs/synthetic_five
Time: TODO
Expect: TODO
"""

from configs import synthetic


def get_config():
    config = synthetic.get_config()
    config.title = "mmdjax on synthetic emotions, five modalities"
    config.data.name = "synthetic_five"
    config.data.test = 256
    config.evaluation.rates = (0.0, 0.2, 0.4, 0.6, 0.8)
    return config
