"""Conversations: GSDNet beside GCNet and systems that see each utterance alone (GSDNet's tables).

Command: python -m mmdjax.main --config=configs/experiments/gsdnet.py:smoke --workdir=runs/gsdnet
Time: `:smoke` 7.7 minutes, on one core of two, the other one at work; `:real` 92, beside much other
work.
Expect: `:smoke` (two seeds), ACC2 over the seven patterns: GSDNet 75.1 ± 0.0 %, `graph.law=parts`
75.1 ± 0.5, one evaluation 75.7 ± 0.1, its draws in the classifier of complete data 76.2 ± 0.3,
trained zeros 76.4 ± 0.1, GCNet 72.4 ± 0.9, the linear probe 76.8, optimum 77.7.
`:real`: GSDNet 68.4 ± 0.8, dense 68.3 ± 0.8, `graph.law=parts` 68.2 ± 0.9, one evaluation 67.3 ±
0.8, MCTN 68.3 ± 0.4, two stages 66.7 ± 1.1, DiCMoR 66.4 ± 0.4, MMIN 66.3 ± 2.1, graph convolution
on means 65.6 ± 1.7, linear probe 65.8, GCNet 63.1 ± 0.5; all of it in
benchmarks/results/sota/conversations.

`:smoke` has embedded conversations and two seeds, `:real` a file as that of
`configs/gsdnet_mosi.py`, in --config.data.path, and three. All systems read the same vectors of the
same split.
"""

from configs import gsdnet_mosi, gsdnet_synthetic
from configs.experiments import base

TABLES = ("gsdnet 1", "gsdnet 2", "gsdnet 3")
# Phases that conversations are the rows of have other batches than those of utterances.
UTTERANCES = tuple(f"{phase}_training.batch=128" for phase in ("classifier", "score", "stage2"))


def get_config(size: str = "smoke"):
    if size not in base.SIZES:
        raise ValueError(f"size {size!r} is unknown; allowed: {', '.join(base.SIZES)}")
    config = (gsdnet_mosi if size == "real" else gsdnet_synthetic).get_config()
    config.systems, config.graph.published = (), ""
    config.seeds = (0, 1, 2) if size == "real" else (0, 1)
    config.latents.frames, config.data.length_buckets = 1, (1,)
    config.fusion.network, config.fusion.layers, config.fusion.heads = "pooled", 2, 4
    config.fusion.dropout = 0.5
    config.decoder.use = False
    if size == "smoke":
        config.data.train = 200
        config.gcnet.width, config.gcnet.convolution, config.gcnet.hidden = 64, 32, 64
    systems = (
        ("GSDNet, 8 draws", "GSDNet", (), "gsdnet"),
        ("GSDNet, one draw", "", ("evaluation.draws=1",), "gsdnet"),
        ("GSDNet, one evaluation", "", ("diffusion.recipe=fast-1",), "gsdnet"),
        ("GSDNet, graphs alone (eq. 15)", "", ("graph.law=parts",), "gsdnet"),
        ("GSDNet, matrices (dense)", "GSDNet w/o spectral", ("graph.variant=dense",), "gsdnet"),
        ("draws into the complete classifier", "", (), "gsdnet_complete"),
        ("GCNet", "GCNet", (), "gcnet"),
        ("graph convolution, means, trained", "", (), "gsdnet_mean_trained"),
        ("graph convolution, means", "", (), "gsdnet_mean"),
        ("two stages, alone", "", UTTERANCES, "two_stage"),
        ("DiCMoR, alone", "DiCMoR", UTTERANCES, "dicmor"),
        ("MMIN, alone", "MMIN", (), "mmin"),
        ("MCTN, alone", "MCTN", (), "mctn"),
        ("zeros, trained, alone", "", UTTERANCES, "zero_trained"),
    )
    base.compare(config, TABLES, systems, complete=True)
    config.title = f"Conversations, {'CMU-MOSI' if size == 'real' else 'synthetic'}"
    return config
