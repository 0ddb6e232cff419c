"""What the comparisons share: a small synthetic setting, and a user's file.

`smoke`: embedded data, everything tiny, every row of the table in minutes. `real`: an mmsa file at
the sizes of `mosi_speed.py`, three seeds; give --config.data.path. Numbers of evaluations, SDEs and
networks are those of the published table in both.
"""

from configs import auto, digits, mosei_video, mosi_base, mosi_speed, synthetic

SIZES = ("smoke", "real")
# Sets with the settings of `configs/auto.py` -> their names in titles.
SETS = {
    "real": "CMU-MOSI layout",
    "synthetic": "synthetic",
    "digits": "digits",
    "video": "videos of CMU-MOSEI",
}


def get_config(size: str, title: str, tables, systems, complete: bool = False):
    """A base config with its comparison.

    Args:
      tables, complete: of `mmdjax.config.Comparison`.
      systems: (name, published name, changes, method if it is not two_stage) each.
    """
    if size not in SIZES:
        raise ValueError(f"size {size!r} is unknown; allowed: {', '.join(SIZES)}")
    config = smoke() if size == "smoke" else real()
    config.title = f"{title}, {'CMU-MOSI layout' if size == 'real' else 'synthetic, small'}"
    compare(config, tables, systems, complete)
    return config


def on_set(name: str):
    """A config of one of `SETS` for a comparison whose systems name their own recipes."""
    config = {"digits": digits, "video": mosei_video}.get(name, auto).get_config()
    if name in ("real", "synthetic"):
        config.data = (mosi_base if name == "real" else synthetic).get_config().data
        config.data.length_buckets = ()
        config.seeds = (0, 1, 2)
    config.systems, config.diffusion.recipe = (), ""
    return config


def compare(config, tables, systems, complete: bool) -> None:
    """Make a config a comparison; see `get_config`."""
    config.comparison.tables = tables
    config.comparison.complete = complete
    fields = ("name", "published", "changes", "method")
    config.comparison.systems = tuple(dict(zip(fields, s, strict=False)) for s in systems)


def smoke():
    config = synthetic.get_config()
    config.optimise = False  # small networks: compiling is most of the time
    config.data.train, config.data.valid, config.data.test = 256, 64, 128
    config.rounds = 1
    config.score.width, config.score.mlp = 32, 64
    config.diffusion.nfe = 30
    config.score_training.epochs = 25
    config.classifier_training.epochs = 12
    config.stage2_training.epochs = 6
    config.imder_training.update(config.score_training)
    config.imder_training.epochs = 5
    config.evaluation.draws = 1
    config.evaluation.batch = 128
    return config


def real():
    config = mosi_speed.get_config()
    config.seeds = (0, 1, 2)
    config.fusion.layers = 2
    # Conditions encoded once a draw: faster (benchmarks/results/vs_torch.md), and not
    # distinguishable from joint attention (benchmarks/results/recipe_quality_mosi.md).
    config.score.attention = "prefix"
    # Fewer epochs than `mosi_speed.py`: several systems are trained.
    config.classifier_training.epochs = 12
    config.score_training.epochs = 10
    config.rounds = 3
    config.stage2_training.epochs = 8
    config.imder_training.update(config.classifier_training)
    config.imder_training.epochs = 10
    config.evaluation.draws = 1  # as published
    return config


def unet(size: str) -> tuple[str, ...]:
    """IMDer's network and sampler; in `smoke` with one layer a level, for less compiling."""
    return (
        "score.network=unet",
        "score.attention=joint",
        f"score.layers={1 if size == 'smoke' else 2}",
        "score.fourier_scale=30.0",
        "diffusion.recipe=imder",
    )


def imder(size: str) -> tuple[str, ...]:
    """The one-stage system; with the settings of `configs/auto.py` ('auto'), whose latents have one
    frame or four, its network is the transformer: a U-Net's convolutions have nothing to see."""
    network = ("diffusion.recipe=imder", "evaluation.batch=128") if size == "auto" else unet(size)
    return ("method=imder", "diffusion.sde=ve", "diffusion.coupling=independent", *network)
