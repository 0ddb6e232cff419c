"""The least that is worth looking at: embedded data, draws alone, gaps inside modalities.

Command: python -m mmdjax.main --config=configs/quickstart.py --workdir=runs/quickstart
Time: 0.9 minutes on two cores from an empty cache; half of it is compiling.
Expect: diffusion, K = 8 at 88.5 % ACC2 averaged over the seven patterns, a regret to Bayes of 2.8
points; the linear probe 84.9.
As `synthetic.py`, with half of its data and one seed, and score networks that learn to draw frames
given those that remain, too (`diffusion.frame_gaps`).
"""

from configs import synthetic


def get_config():
    config = synthetic.get_config()
    config.title = "mmdjax, quick start"
    config.seeds = (0,)
    config.optimise = False
    config.systems = ("two_stage evaluation.draws=1", "linear_probe", "bayes")
    config.data.train = 640
    config.data.valid = 128
    config.data.test = 256
    config.diffusion.frame_gaps = 0.5
    config.score_training.epochs = 40
    config.evaluation.batch = 512
    return config
