"""IMDer, one stage, on the embedded synthetic data: VE, U-Net, Euler-Maruyama 100.

Command: python -m mmdjax.main --config=configs/imder.py --workdir=runs/imder
Time: 10 minutes on two cores, with other work beside it; drawing in every training step costs 100
evaluations, so that 150 steps take nine of them.
Expect: one draw, averaged over the seven patterns, 88.3 % ACC2, a regret to Bayes of 2.0 points
(one seed, 512 test utterances); linear probe 85.2.

`imder.py:faithful` keeps what its code does and its equations do not say (`methods/imder.py`); not
run to the end. The U-Net is 64 wide instead of 256. On an mmsa file give --config.data.* and the
sizes of `mosi_speed.py`.
"""

from configs import synthetic

FORMS = ("mended", "faithful")


def get_config(form: str = "mended"):
    if form not in FORMS:
        raise ValueError(f"configs/imder.py:{form}; allowed: {', '.join(FORMS)}")
    config = synthetic.get_config()
    config.title = f"IMDer ({form}) on synthetic emotions"
    config.method = "imder"
    config.seeds = (0,)
    config.evaluation.draws = 1  # as IMDer does
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
