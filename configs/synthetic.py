"""The whole job on the embedded synthetic data: exact answers to compare with.

Command: python -m mmdjax.main --config=configs/synthetic.py --workdir=runs/synthetic
Time: 1.5 minutes on two cores from an empty cache, two seeds.
Expect: diffusion, K = 8 at 89.1 ± 0.0 % ACC2 averaged over the seven patterns, a regret to Bayes of
1.2 ± 0.0 points; `zero` and `mean` 81.1; `zero_trained` 88.4 ± 0.2.
Everything is small so that the job is quick: score networks 64 wide with 2 layers on 4 latent
frames, DDIM 10, a fusion of one layer. Ten steps of DDIM lose some of the draws' variance.
"""

from configs import base


def get_config():
    config = base.get_config()
    config.title = "mmdjax on synthetic emotions"
    config.seeds = (0, 1)
    config.data.name = "synthetic"
    config.data.train = 1280
    config.data.valid = 256
    config.data.test = 512
    config.data.length_buckets = (4,)
    config.latents.frames = 4
    config.latents.channels = 16
    config.fusion.layers = 1
    config.fusion.heads = 4
    config.fusion.attention_dropout = 0.0
    config.fusion.dropout = 0.0
    config.score.width = 64
    config.score.layers = 2
    config.score.heads = 2
    config.score.mlp = 128
    config.score.time_features = 64
    config.diffusion.nfe = 10
    config.decoder.channels = 16
    config.decoder.blocks = 2
    config.decoder.reduction = 8
    for phase in (config.classifier_training, config.score_training, config.stage2_training):
        phase.batch = 128
        phase.learning_rate = 2e-3
        phase.warmup = 50
    config.classifier_training.epochs = 12
    config.score_training.epochs = 20
    config.score_training.patience = 20
    config.score_training.ema = 0.99
    config.stage2_training.epochs = 8
    config.student_training.update(config.score_training)
    config.student_training.warmup = 10
    config.student_training.epochs = 8
    config.evaluation.batch = 1024
    return config
