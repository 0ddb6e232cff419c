"""GSDNet on synthetic conversations that are smooth over their graph: exact answers beside.

Command: python -m mmdjax.main --config=configs/gsdnet_synthetic.py --workdir=runs/gsdnet_synthetic
Time: 6.6 minutes on one core of two that both worked, from an empty cache, one seed.
Expect: RMSE of the mean of 8 draws at missing rates 0.1, 0.3, 0.5 and 0.7: 0.517, 0.528, 0.568 and
0.644, by one evaluation 0.587, 0.584, 0.613 and 0.682; `dense` (noise on whole matrices) 0.539,
0.568, 0.594, 0.674; `blind` 0.694, 0.735, 0.744, 0.805; means 1.01 to 1.02. Exact optimum 0.388,
0.427, 0.461, 0.525; of any method that looks at one utterance at a time 0.631, 0.679, 0.689, 0.755.
"""

from configs import base


def get_config():
    config = base.get_config()
    config.title = "GSDNet on synthetic conversations"
    config.method = "gsdnet"
    config.systems = (
        "gsdnet evaluation.draws=1",
        "gsdnet diffusion.recipe=fast-1",
        "gsdnet graph.law=parts",
        "gsdnet graph.variant=dense",
        "gsdnet graph.variant=blind",
        "gsdnet_complete",
        "gsdnet_mean_trained",
        "gsdnet_mean",
        "linear_probe",
        "bayes_alone",
        "bayes",
    )
    config.rounds = 2
    config.data.name = "synthetic_conversations"
    config.data.train = 400
    config.data.valid = 40
    config.data.test = 60
    config.graph.lengths = (16,)
    config.graph.components = 8
    config.graph.dropout = 0.1
    config.score.width = 64
    config.score.layers = 2
    config.score.heads = 4
    config.score.mlp = 128
    config.score.time_features = 64
    config.diffusion.recipe = "fast-8"
    config.classifier_training.epochs = 25
    config.score_training.epochs = 100
    config.score_training.patience = 100
    config.score_training.ema = 0.99
    config.stage2_training.epochs = 12
    for phase in (config.classifier_training, config.score_training, config.stage2_training):
        phase.batch = 32
        phase.learning_rate = 2e-3
        phase.warmup = 50
    config.student_training.update(config.score_training)
    config.student_training.update(epochs=30, warmup=10)
    config.evaluation.rates = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    config.evaluation.batch = 240
    return config
