"""Networks that draw by one, two or four evaluations; one file each.

A student has the architecture of the score networks, and starts from them, its teacher. It is one
phase or several between theirs and stage 2; what is drawn afterwards is drawn by the last of them,
by DDIM on the grid of the config. A module has

  NEEDS     the evaluations that it can learn
  rounds    (modules, `Diffusion`, `Student`) -> what is learned, in order, see `Round`
"""

from __future__ import annotations

from mmdjax.errors import require
from mmdjax.methods.latent.modules import networks_alone
from mmdjax.methods.latent.students import energy, mean, progressive
from mmdjax.methods.latent.students.round import Round

STUDENTS = {"energy": energy, "progressive": progressive, "mean": mean}


def rounds(modules, config) -> tuple[Round, ...]:
    """Return what the student of a `mmdjax.config.Config` learns, in order; () for none."""
    name = config.diffusion.student
    if not name:
        return ()
    return STUDENTS[name].rounds(networks_alone(modules), config.diffusion, config.student)


def check(diffusion) -> None:
    """Raise `UserError` where a config asks a student for what it cannot learn."""
    if not diffusion.student:
        return
    needs, name = STUDENTS[diffusion.student].NEEDS, f"student {diffusion.student!r}"
    for problem, fits, allowed in (
        (f"sampler {diffusion.sampler!r}", diffusion.sampler == "ddim", "ddim"),
        (f"nfe {diffusion.nfe}", diffusion.nfe in needs, ", ".join(map(str, needs))),
        (f"guidance {diffusion.guidance:g}", diffusion.guidance == 1, "1"),
        (f"conditioning {diffusion.conditioning!r}", diffusion.conditioning == "clean", "clean"),
    ):
        require(fits, f"config.diffusion: {problem} with {name}", allowed)


def refuse(config, method: str) -> None:
    """Raise `UserError` where a config has a student of a method that trains none."""
    problem = f"config.diffusion.student = {config.diffusion.student!r} with method {method!r}"
    require(not config.diffusion.student, problem, "'', or a method of two stages")
