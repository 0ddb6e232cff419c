"""CMU-MOSI, speed recipe."""

from configs import base

SIZES = {
    "compact": {"width": 96, "layers": 3, "heads": 4, "mlp": 192, "time_features": 128},
    "thesis": {"width": 256, "layers": 6, "heads": 8, "mlp": 512, "time_features": 256},
}


def get_config(size: str = "compact"):
    if size not in SIZES:
        raise ValueError(f"size {size!r} is unknown; allowed: {', '.join(SIZES)}")
    config = base.get_config()
    config.title = f"mmdjax on CMU-MOSI, DDIM 30, {size} score networks"
    config.seeds = (0, 1)
    config.data.name = "mmsa"
    config.data.modalities = ("text:language", "audio:acoustic", "vision:timing")
    config.data.length_buckets = (12, 24, 48)
    config.latents.dropout = 0.3
    config.score.update(SIZES[size])
    config.diffusion.sampler = "ddim"
    config.diffusion.steps = 30
    config.classifier_training.learning_rate = 5e-4
    config.classifier_training.epochs = 20
    config.score_training.learning_rate = 2e-3
    config.score_training.ema = 0.99
    config.score_training.epochs = 25
    config.stage2_training.learning_rate = 3e-4
    config.stage2_training.epochs = 15
    return config
