"""Every setting of a run."""

from mmdjax.config.groups import Comparison, Config, Evaluation, System, from_dict, to_dict
from mmdjax.data.settings import Data, Labels
from mmdjax.methods.graph.settings import Graph
from mmdjax.methods.settings import Decoder, Diffusion, Fusion, Latents, Score
from mmdjax.training.settings import Mesh, Training

__all__ = [
    "Comparison",
    "Config",
    "Data",
    "Decoder",
    "Diffusion",
    "Evaluation",
    "Fusion",
    "Graph",
    "Labels",
    "Latents",
    "Mesh",
    "Score",
    "System",
    "Training",
    "from_dict",
    "to_dict",
]
