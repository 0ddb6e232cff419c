"""Every setting of a run."""

from mmdjax.config.groups import (
    Comparison,
    Config,
    Data,
    Decoder,
    Diffusion,
    Evaluation,
    Fusion,
    Graph,
    Imder,
    Latents,
    Mesh,
    Score,
    Training,
    from_dict,
    to_dict,
)

__all__ = [
    "Comparison", "Config", "Data", "Decoder", "Diffusion", "Evaluation", "Fusion", "Graph",
    "Imder", "Latents", "Mesh", "Score", "Training", "from_dict", "to_dict",
]  # fmt: skip
