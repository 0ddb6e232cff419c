"""Settings of GSDNet: the graph of a conversation, and what is diffused on it."""

from __future__ import annotations

import dataclasses

from mmdjax.graphs.conversation import BASES
from mmdjax.methods.graph.variants import VARIANTS
from mmdjax.runtime.settings import field


@dataclasses.dataclass(frozen=True)
class Graph:
    """What `gsdnet` reads beside `score`, `diffusion` and the training phases.

    Attributes:
      variant: what is diffused, and what the network of the features sees; of
        `methods/graph/variants.py`.
      law: 'joint' draws features and graphs from their joint law, by networks that both see all of
        the state (eq. 6); with 'parts' the network of graphs does not see the features, as in the
        paper's eq. 15, and draws depend less on each other than they should.
      lengths: conversations are padded to the shortest of these numbers of utterances that holds
        them; () for at most four that are chosen from the data.
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

    variant: str = field("spectral", names=tuple(VARIANTS))
    law: str = field("joint", names=("joint", "parts"))
    lengths: tuple[int, ...] = field((), low=1)
    components: int = field(32, low=1)
    past: int = field(2, low=0)
    future: int = field(2, low=0)
    scale: float = field(2.0, above=0)
    across: float = field(0.5, low=0)
    basis: str = field("structure", names=tuple(BASES))
    spectrum_width: int = field(32, low=1)
    edge_width: int = field(16, low=1)
    refine_width: int = field(64, low=1)
    beta: float = field(0.2, low=0)
    published: str = field("", names=("", "MOSI", "MOSEI"))
    gcn_width: int = field(64, low=1)
    gcn_layers: int = field(2, low=0)
    kernel: int = field(1, low=1)
    dropout: float = field(0.3, low=0, below=1)

    def edges(self) -> dict[str, float]:
        """Return the arguments of `graphs.conversation.structure`."""
        return {name: getattr(self, name) for name in ("past", "future", "scale", "across")}


GRAPH = Graph()
