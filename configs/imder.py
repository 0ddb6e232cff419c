"""IMDer, one stage, on the embedded synthetic data: VE, U-Net, Euler-Maruyama 100.

Command: python -m mmdjax.main --config=configs/imder.py --workdir=runs/imder

`imder.py:faithful` keeps what its code does and its equations do not say (`methods/imder.py`). The
U-Net has an eighth of the published width: sampling in every training step costs 100 evaluations,
and two cores should end within the hour. On an mmsa file give --config.data.* and the sizes of
`mosi_speed.py`.
"""

from configs import synthetic

FORMS = ("mended", "faithful")


def get_config(form: str = "mended"):
    if form not in FORMS:
        raise ValueError(f"configs/imder.py:{form}; allowed: {', '.join(FORMS)}")
    config = synthetic.get_config()
    config.title = f"IMDer ({form}) on synthetic emotions"
    config.method = "imder"
    config.score.update(
        {"network": "unet", "width": 64, "layers": 2, "heads": 4, "mlp": 256, "fourier_scale": 30.0}
    )
    config.diffusion.update({"sde": "ve", "recipe": "imder", "nfe": 100, "coupling": "independent"})
    if form == "faithful":
        config.imder.faithful = True
        config.diffusion.conditioning = "shared"
    config.evaluation.batch = 128  # a short last batch is filled up, which costs 100 evaluations
    training = {"epochs": 15, "batch": 128, "learning_rate": 2e-3, "warmup": 50}
    config.imder_training.update(training)
    return config
