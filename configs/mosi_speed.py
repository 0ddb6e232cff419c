"""CMU-MOSI in the field's pickle layout: the speed recipe, DDIM with 30 evaluations.

Command: python -m mmdjax.main --config=configs/mosi_speed.py --workdir=runs/mosi_speed \\
    --config.data.path=aligned_50.pkl
Time: about 40 minutes a seed on two cores (measured while they did other work as well).
Expect: over the four patterns that hold language, diffusion with K = 8 at 80.3 % ACC2 (non-zero),
none below 79.3; `zero_trained` 80.6, linear probe 78.9. One seed, 686 test utterances: one standard
error is 1.6 points, so these do not differ. Other features than the README's, other scores.

The third slot of the file measured here holds speech timing, not video; rename it with
--config.data.modalities. Score networks are compact (96 wide, 3 layers, 0.25 million parameters
each) so that two cores suffice; `mosi_speed.py:thesis` has the published size (256 wide, 6
layers, 3.2 million), for a GPU. Changed from the thesis' starting point (Adam 2e-3, weight decay
5e-3): warm-up, cosine decay and gradient clipping everywhere; 5e-4 for the classifier, and 3e-4
in stage 2, which starts from it; dropout 0.3 on the features; an average of the score networks'
parameters (0.99); a quadratic time grid. For deviations give --config.seeds='(0,1,2)'.
"""

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
    config.seeds = (0,)
    config.data.name = "mmsa"
    config.data.modalities = ("text:language", "audio:acoustic", "vision:timing")
    config.data.length_buckets = (12, 24, 48)
    config.latents.dropout = 0.3
    config.score.update(SIZES[size])
    config.diffusion.sampler = "ddim"
    config.diffusion.nfe = 30
    config.classifier_training.learning_rate = 5e-4
    config.classifier_training.epochs = 20
    config.score_training.learning_rate = 2e-3
    config.score_training.ema = 0.99
    config.score_training.epochs = 25
    config.student_training.update(config.score_training)
    config.student_training.warmup = 10
    config.student_training.epochs = 5
    config.stage2_training.learning_rate = 3e-4
    config.stage2_training.epochs = 15
    return config
