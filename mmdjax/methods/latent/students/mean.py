"""The conditional mean in one evaluation: what drawing has to beat, not a way of drawing.

The same network and loss as `energy`, without what keeps draws apart and with squared errors. The
best output is E[x(0) | condition], whatever the noise: its draws have no spread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmdjax.methods.latent.students import energy
from mmdjax.methods.latent.students.round import Round

if TYPE_CHECKING:
    from mmdjax.methods.latent.modules import Modules
    from mmdjax.methods.settings import Diffusion, Student

SAMPLER = "ddim"
NEEDS = (1,)


def rounds(modules: Modules, diffusion: Diffusion, options: Student) -> tuple[Round, ...]:
    """Return the one round, which is validated by the squared error of held-out rows."""
    error = energy.scored(modules, energy.times(modules, diffusion), 1, 2, 0.0)
    return (Round("conditional_mean", "one-step means", error),)
