"""Every kind of method side by side, on the same masks: what `mmdjax.methods` registers.

Command: python -m mmdjax.main --config=configs/experiments/methods.py:smoke --workdir=runs/methods
Time: `:conversations` with one seed 6.3 minutes on two cores, with much other work beside it;
`:smoke` was not timed.
Expect: `:conversations`, seed 0, ACC2 over the seven patterns: two stages 74.0 % with eight draws
and 71.4 with one, IMDer 68.8, GSDNet 71.6, MMIN 73.6, trained on zeros or means 73.9, zeros or
means 70.6, linear probe 75.9, Bayes optimum 76.8. One seed of short training says nothing of
differences.
`:smoke` has embedded utterances, of which GSDNet sees each as a conversation of one;
`:conversations` has embedded conversations, of which the two-stage system, IMDer and MMIN see each
utterance alone; `:real` an mmsa file.
"""

from configs.experiments import base

SIZES = (*base.SIZES, "conversations")


def get_config(size: str = "smoke"):
    if size not in SIZES:
        raise ValueError(f"size {size!r} is unknown; allowed: {', '.join(SIZES)}")
    fast = "diffusion.recipe=fast-8"
    draws = "evaluation.draws=8"
    systems = [
        ("two stages, K = 8", "", (fast, draws)),
        ("two stages, K = 1", "", (fast,)),
        ("IMDer, mended", "", base.imder("real" if size == "real" else "smoke")),
        ("GSDNet, K = 8", "", (fast, draws), "gsdnet"),
        ("MMIN", "", (), "mmin"),
        ("zeros, trained", "", (), "zero_trained"),
        ("means, trained", "", (), "mean_trained"),
        ("zeros", "", (), "zero"),
        ("means", "", (), "mean"),
    ]
    real = "real" if size == "real" else "smoke"
    config = base.get_config(real, "Methods", (), systems, complete=True)
    if size != "real":
        config.graph.components, config.graph.gcn_width = 8, 32
        config.mmin.width = 32
        for phase in (config.mmin.teacher, config.mmin.training):
            phase.epochs, phase.learning_rate = 40, 2e-3
    if size == "conversations":
        config.title = "Methods, synthetic conversations"
        config.data.name = "synthetic_conversations"
        config.data.train, config.data.valid, config.data.test = 120, 24, 40
        config.latents.frames, config.data.length_buckets = 1, (1,)
        config.evaluation.batch = 64
    return config
