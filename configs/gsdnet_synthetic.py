"""GSDNet on synthetic conversations that are smooth over their graph: exact answers beside.

Command: python -m mmdjax.main --config=configs/gsdnet_synthetic.py --workdir=runs/gsdnet_synthetic
"""

from configs import base


def get_config():
    config = base.get_config()
    config.title = "GSDNet on synthetic conversations"
    config.method = "gsdnet"
    config.optimise = False  # small networks: compiling is most of the time
    config.fills = ("draws", "mean")
    config.rounds = 2
    config.data.name = "synthetic_conversations"
    config.data.train = 400
    config.data.valid = 40
    config.data.test = 60
    config.data.length_buckets = (16,)
    config.graph.variants = ("spectral", "dense", "blind")
    config.graph.components = 8
    config.graph.dropout = 0.1
    config.score.width = 64
    config.score.layers = 2
    config.score.heads = 4
    config.score.mlp = 128
    config.score.time_features = 64
    config.diffusion.recipe = "fast-8"
    config.classifier_training.epochs = 25
    config.score_training.epochs = 80
    config.score_training.patience = 80
    config.score_training.ema = 0.99
    config.stage2_training.epochs = 12
    for phase in (config.classifier_training, config.score_training, config.stage2_training):
        phase.batch = 32
        phase.learning_rate = 2e-3
        phase.warmup = 50
    config.evaluation.rates = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    config.evaluation.batch = 240
    return config
