"""DCCAE: the correlated views of DCCA, from which decoders rebuild the vectors.

Source: Wang, Arora, Livescu & Bilmes, "On Deep Multi-View Representation Learning" (ICML 2015),
eq. 2: beside minus the canonical correlations of `mmdjax.methods.dcca` stands the error of vectors
that a mirrored network rebuilds from each view's outputs,

    L = L_DCCA + 0.001 sum over modalities of ||decoder_m(h_m) - x_m||^2 / C_m.

What was mended is told in `mmdjax/methods/dcca.py`; decoders have no batch normalisation, and
learn from modalities that are there.
"""

from __future__ import annotations

import dataclasses

from mmdjax.methods import dcca
from mmdjax.methods.method import register
from mmdjax.runtime.settings import field


@dataclasses.dataclass(frozen=True)
class Settings(dcca.Settings):
    """Options of DCCAE, those of DCCA and one more.

    Attributes:
      reconstruction: weight of rebuilt vectors.
    """

    reconstruction: float = field(1e-3, above=0)


@register("dccae", label="DCCAE", published="DCCAE", options=Settings)
class DeepCorrelatedAutoencoders(dcca.DeepCorrelation):
    """A linear model of what correlated views put out, from which vectors can be rebuilt."""
