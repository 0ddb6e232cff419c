"""What each phase of training reads of a config, so that systems share what they have in common.

Said by what is *not* read: a field that nobody thought of keeps phases apart, which costs time and
never mixes two systems.
"""

from __future__ import annotations

import hashlib
import json

_NEVER = ("title", "seeds", "save_seconds", "keep_last", "mesh", "optimise")
_NEVER_OF_GRAPHS = (*_NEVER, "evaluation", "comparison", "fills")
_NEVER += ("evaluation", "comparison", "fills", "method", "graph")
_ONE_STAGE = ("imder", "imder_training")
_STAGE_2 = ("rounds", "training_rate", "stage2_training")
_DRAWS = ("decoder", *_STAGE_2)
# How a network draws, not what it has learned.
_SOLVER = tuple(
    f"diffusion.{name}"
    for name in (
        *("recipe", "sampler", "sampler_options", "grid", "grid_options", "nfe"),
        *("guidance", "coupling", "dtype"),
    )
)
_CONSTANT = (*_ONE_STAGE, "score", "diffusion", "score_training", "decoder")
UNREAD = {
    "classifier": (*_CONSTANT, *_STAGE_2),
    "score": (*_ONE_STAGE, *_DRAWS, *_SOLVER),
    "completions": (*_ONE_STAGE, "decoder", "stage2_training"),
    "draws": _ONE_STAGE,
    "zero": _CONSTANT,
    "mean": _CONSTANT,
    "imder": ("classifier_training", "score_training", *_STAGE_2),
}


def fingerprint(values: dict, phase: str) -> str:
    """Eight hexadecimal digits of what a phase reads; equal for configs that may share it.

    Args:
      values: plain ones, from `mmdjax.config.to_dict`.
      phase: of `UNREAD`; any of method gsdnet, whose phases are told apart by their names.
    """
    unread = (*_NEVER, *UNREAD[phase]) if values["method"] != "gsdnet" else _NEVER_OF_GRAPHS
    read = {name: value for name, value in _leaves(values) if not _under(name, unread)}
    return hashlib.sha256(json.dumps(read, sort_keys=True).encode()).hexdigest()[:8]


def _leaves(values: dict, where: str = ""):
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{where}{name}.")
        else:
            yield where + name, value


def _under(name: str, groups) -> bool:
    return any(name == group or name.startswith(f"{group}.") for group in groups)
