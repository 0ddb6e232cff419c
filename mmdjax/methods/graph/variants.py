"""Variants of GSDNet: what of the graphs is diffused, and what the network of features sees.

spectral         GSDNet: eigenvalues in the basis of the known structure
dense            the adjacency matrices themselves (GDSS), the paper's ablation: features pass
                 messages on nothing but the noisy matrices
dense_structure  the same, and features see the known structure too
structure        no graph is drawn; features see the known structure
blind            no graph is drawn; each utterance sees itself alone
"""

from __future__ import annotations

from typing import NamedTuple


class Variant(NamedTuple):
    """state: of `states.REGISTRY`. drawn: whether it is. sees: of `GraphTransformer`."""

    state: str
    drawn: bool
    sees: str


VARIANTS = {
    "spectral": Variant("spectral", True, "graph"),
    "dense": Variant("dense", True, "all"),
    "dense_structure": Variant("dense", True, "graph"),
    "structure": Variant("spectral", False, "graph"),
    "blind": Variant("spectral", False, "alone"),
}
# Whose graphs complete data and constant fills have, whatever variant is drawn: so the classifier
# of complete data is one for all variants.
PLAIN = "spectral"
