"""Settings of GSDNet: the graph of a conversation, and what is diffused on it."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Graph:
    """What `method = 'gsdnet'` reads beside `score`, `diffusion` and the training phases.

    Attributes:
      variants: systems to train and compare, of `methods/gsdnet.py`; the first one is the method,
        whose draws also go to the classifier of complete data.
      components: D principal components a modality, the features that are drawn.
      past, future, scale, across: edges, see `graphs/conversation.py`.
      basis: whose eigenvectors carry the spectra: 'structure', 'time' (no speakers) or 'every_pair'
        (no window).
      spectrum_width: of the network of spectra (layers and heads are those of `score`).
      edge_width: of the network of whole matrices (dense).
      refine_width: of the reconstruction modules D_X and D_Lambda.
      beta: weight of L_rec beside L_pred (eq. 20).
      published: 'MOSI' or 'MOSEI' puts GSDNet's printed tables beside ours; '' none. The three
        modalities stand for language, acoustic and vision.
      gcn_width, gcn_layers, kernel, dropout: of the network that predicts, see `networks/gcn.py`.
    """

    variants: tuple[str, ...] = ("spectral",)
    components: int = 32
    past: int = 2
    future: int = 2
    scale: float = 2.0
    across: float = 0.5
    basis: str = "structure"
    spectrum_width: int = 32
    edge_width: int = 16
    refine_width: int = 64
    beta: float = 0.2
    published: str = ""
    gcn_width: int = 64
    gcn_layers: int = 2
    kernel: int = 1
    dropout: float = 0.3

    def edges(self) -> dict[str, float]:
        """Arguments of `graphs.conversation.structure`."""
        return {name: getattr(self, name) for name in ("past", "future", "scale", "across")}


GRAPH = Graph()
