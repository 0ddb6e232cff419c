"""GSDNet on CMU-MOSI's conversations, in GCNet's layout or an `.npz`.

Command: python -m mmdjax.main --config=configs/gsdnet_mosi.py --workdir=runs/gsdnet_mosi \\
    --config.data.path=CMUMOSI_features_raw_2way.pkl
Time: 32 minutes, three seeds, on one core of two while the other worked.
Expect: ACC2 (non-zero) over the four patterns that hold language 81.3 %, `graph.law=parts` 81.1,
one evaluation 80.7, `mean` 80.6, linear probe 77.6; over all seven 68.4 ± 0.8, 68.2 ± 0.9,
67.3 ± 0.8, 65.3 ± 1.5 and 65.8. Report in benchmarks/results/gsdnet_mosi.
"""

from configs import base


def get_config():
    config = base.get_config()
    config.title = "GSDNet on CMU-MOSI"
    config.method = "gsdnet"
    config.seeds = (0, 1, 2)
    config.systems = (
        "gsdnet evaluation.draws=1",
        "gsdnet diffusion.recipe=fast-1",
        "gsdnet graph.law=parts",
        "gsdnet graph.variant=dense",
        "gsdnet_complete",
        "gsdnet_mean_trained",
        "gsdnet_mean",
        "linear_probe",
    )
    config.rounds = 8
    config.data.name = "gcnet"
    config.data.modalities = ("language:language", "acoustic:acoustic", "timing:timing")
    config.graph.lengths = (16, 32, 64)
    config.graph.published = "MOSI"
    config.graph.components = 32
    config.graph.dropout = 0.5
    config.score.width = 96
    config.score.layers = 3
    config.score.heads = 4
    config.score.mlp = 192
    config.score.time_features = 64
    config.diffusion.recipe = "fast-8"
    config.classifier_training.epochs = 40
    config.classifier_training.batch = 8
    config.score_training.epochs = 200
    config.score_training.patience = 60
    config.score_training.ema = 0.99
    config.score_training.batch = 16
    config.stage2_training.epochs = 15
    config.stage2_training.batch = 32
    for phase in (config.classifier_training, config.score_training, config.stage2_training):
        phase.learning_rate = 1e-3
        phase.warmup = 50
        phase.weight_decay = 1e-2
    config.student_training.update(config.score_training)
    config.student_training.update(epochs=60, patience=20, warmup=10, learning_rate=2e-3)
    config.evaluation.rates = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    config.evaluation.batch = 64
    return config
