"""Networks that draw by one, two or four evaluations; one file each.

A student has the architecture of the score networks, and starts from them, its teacher. It is one
phase or several between theirs and stage 2; what is drawn afterwards is drawn by the last of them,
by DDIM on the grid of the config. Of a solver the networks stay as they are. A new student is one
file, and one entry in `STUDENTS`. It has

  NEEDS     the evaluations that it can learn
  SAMPLER   how it draws
  rounds    (modules, `Diffusion`, `Student`) -> what is learned, in order, see `Round`

and, where its networks are told more than those of the scores,

  NETWORK   the one of `networks/score_networks.py` that can be told
  told      (modules, evaluations) -> the modules that draw, and the level that they are told
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from mmdjax.diffusion.samplers.corrected import corrected
from mmdjax.diffusion.samplers.registry import Constructor
from mmdjax.errors import require
from mmdjax.methods.latent.initial import score_shapes
from mmdjax.methods.latent.modules import Modules, networks_alone
from mmdjax.methods.latent.students import energy, mean, progressive, shortcut, solver
from mmdjax.methods.latent.students.round import Round
from mmdjax.types import Params

if TYPE_CHECKING:
    from mmdjax.methods.settings import Diffusion

STUDENTS = {
    "energy": energy,
    "progressive": progressive,
    "shortcut": shortcut,
    "mean": mean,
    "solver": solver,
}


def rounds(modules: Modules, config: Any) -> tuple[Round, ...]:
    """Return what the student of a `mmdjax.config.Config` learns, in order; () for none."""
    name = config.diffusion.student
    if not name:
        return ()
    return STUDENTS[name].rounds(networks_alone(modules), config.diffusion, config.student)


def drawn_by(modules: Modules, config: Any, params: Params) -> Params:
    """Return the parameters that draw, of phase -> parameters: of the last round, or of a solver
    beside the networks that it was learned for; None of a method that does not draw."""
    last = next(iter(rounds(modules, config)[-1:]), None)
    if last is None or last.name not in params:
        return params.get("score")
    return params[last.start] | {"solver": params[last.name]} if last.beside else params[last.name]


def shapes(modules: Modules, config: Any) -> Params:
    """Return the shapes of `drawn_by`, known before anything is trained."""
    networks, last = score_shapes(modules.score), next(iter(rounds(modules, config)[-1:]), None)
    if last is None:
        return networks
    begun = jax.eval_shape(last.begin, networks)
    return networks | {"solver": begun} if last.beside else begun


def told(modules: Modules, diffusion: Diffusion) -> tuple[Modules, int]:
    """Return the modules that draw, and the level that they are told, 0 for none."""
    own = getattr(STUDENTS.get(diffusion.student), "told", None)
    return own(modules, diffusion.nfe) if own else (modules, 0)


def solver_of(
    modules: Modules, params: Params, grid: jax.Array | np.ndarray, sampler: str, options: dict
) -> tuple[jax.Array | np.ndarray, str | Constructor, dict]:
    """Return times, sampler and options of a draw, of which a learned solver has its own.

    Args:
      params: of one modality, see `drawn_by`. grid, sampler, options: of the config.
    """
    if "solver" not in params:
        return grid, sampler, options
    own = params["solver"]
    return solver.times_of(modules.sde, own["gaps"]), corrected, {"weights": own["weights"]}


def check(config: Any, method: str = "", able: tuple[str, ...] = tuple(STUDENTS)) -> None:
    """Raise `UserError` where a config asks a student for what it cannot learn.

    Args:
      able: the students of a method.
    """
    diffusion, network = config.diffusion, config.score.network
    if not diffusion.student:
        return
    if diffusion.student not in able:
        refuse(config, method, able)
    student, name = STUDENTS[diffusion.student], f"student {diffusion.student!r}"
    needs, sampler = student.NEEDS, student.SAMPLER
    for problem, fits, allowed in (
        (f"sampler {diffusion.sampler!r}", diffusion.sampler == sampler, sampler),
        (f"nfe {diffusion.nfe}", diffusion.nfe in needs, ", ".join(map(str, needs))),
        (f"guidance {diffusion.guidance:g}", diffusion.guidance == 1, "1"),
        (f"prior {diffusion.prior!r}", diffusion.prior == "zero", "zero"),
        (f"conditioning {diffusion.conditioning!r}", diffusion.conditioning == "clean", "clean"),
    ):
        require(fits, f"config.diffusion: {problem} with {name}", allowed)
    only = getattr(student, "NETWORK", network)
    require(network == only, f"config.score.network = {network!r} with {name}", only)


def refuse(config: Any, method: str, able: tuple[str, ...] = ()) -> None:
    """Raise `UserError` where a config has a student of a method that trains none, or not this."""
    problem = f"config.diffusion.student = {config.diffusion.student!r} with method {method!r}"
    allowed = ", ".join(map(repr, ("", *able)))
    require(not config.diffusion.student, problem, f"{allowed}, or a method of two stages")
