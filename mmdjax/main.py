"""python -m mmdjax.main --config=configs/NAME.py --workdir=DIR [--mode=MODE] [--config.x.y=v]

Modes:
  train     train what is not trained yet, evaluate, write the report (the default)
  evaluate  evaluate a finished run again; trains nothing
  impute    a file with gaps (--input) -> the same file with them filled (--output)
  predict   a file (--input) -> a CSV of predictions with intervals (--output)
  export    a finished run -> one file that runs without mmdjax (--output)
  inspect   print what a file (--input) holds

The last four need no --config; impute, predict and export read the model in --workdir.

Several processes are started with the same command each, and --distributed (TPU pod, SLURM, MPI) or
--coordinator, --processes and --process. See docs/pods.md.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from mmdjax.errors import UserError, choice
from mmdjax.runtime import stopping

TRAINING = ("train", "evaluate")
SERVING = ("impute", "predict", "export", "inspect")
MODES = TRAINING + SERVING

_CONFIG = config_flags.DEFINE_config_file("config", None, "A file in configs/.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where everything is written.")
_MODE = flags.DEFINE_string("mode", "train", f"One of {', '.join(MODES)}.")
_FORCE = flags.DEFINE_bool("force", False, "Go on in a workdir that holds another config's run.")
_PROFILE = flags.DEFINE_bool("profile", False, "Leave traces of some steps in WORKDIR/profile.")
_DISTRIBUTED = flags.DEFINE_bool("distributed", False, "One of several processes, found out.")
_COORDINATOR = flags.DEFINE_string("coordinator", "", "HOST:PORT of process 0.")
_PROCESSES = flags.DEFINE_integer("processes", 0, "How many there are.")
_PROCESS = flags.DEFINE_integer("process", -1, "Number of this one, from 0.")
_INPUT = flags.DEFINE_string("input", None, "A file or folder of features, of any known layout.")
_OUTPUT = flags.DEFINE_string("output", None, "Where the result is written; must not exist yet.")
_LAYOUT = flags.DEFINE_string("layout", "", "Of --input, if it is not to be found out (inspect).")
_DRAWS = flags.DEFINE_integer("draws", 0, "Draws of each gap; 0: 1 to impute, else the model's.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the draws.")
_LEVEL = flags.DEFINE_float("level", 0.9, "Share of labels that intervals are to cover.")
_MODEL = flags.DEFINE_integer("model", -1, "Seed of the run whose model serves; -1: the first.")
_STOPPED = flags.DEFINE_integer(
    "stopped_status", 0, "Exit status after SIGTERM or SIGINT, for schedulers that take 0 for done."
)


def main(argv: list[str]) -> None:
    choice("mode", _MODE.value, MODES)
    if _MODE.value in SERVING:
        return serve(argv)
    stopping.listen()
    config, folder = given(argv)
    from mmdjax.run import run

    run(config, folder, _MODE.value == "train", _FORCE.value, _PROFILE.value)


def serve(argv: list[str]) -> None:
    """Runs a mode of `SERVING`.

    Raises:
      UserError: a flag is missing or wrong, or what the mode itself refuses.
    """
    _check_arguments(argv)
    asked = {"input": _INPUT.value, "output": _OUTPUT.value, "workdir": _WORKDIR.value}
    needed = {"inspect": ("input",), "export": ("workdir", "output")}
    for name in needed.get(_MODE.value, ("workdir", "input", "output")):
        if not asked[name]:
            raise UserError(f"--{name} is missing; --mode={_MODE.value} needs it")
    logging.set_verbosity(logging.FATAL)  # JAX tells which accelerators it has not found
    from mmdjax.serving import command

    if _MODE.value == "inspect":
        return command.inspect(_INPUT.value, _LAYOUT.value)
    model = (Path(_WORKDIR.value), None if _MODEL.value < 0 else _MODEL.value)
    if _MODE.value == "export":
        return command.export(model, Path(_OUTPUT.value), _DRAWS.value, _LEVEL.value)
    settings = {"draws": _DRAWS.value or None, "seed": _SEED.value}
    if _MODE.value == "predict":
        settings["level"] = _LEVEL.value
    command.on_file(_MODE.value, model, Path(_INPUT.value), Path(_OUTPUT.value), settings)


def _check_arguments(argv: list[str]) -> None:
    if len(argv) > 1:
        known = "--config, --workdir, --mode, --force, --profile, --distributed, --input, --output"
        raise UserError(f"argument {argv[1]!r} is unknown; allowed: {known}")


def given(argv: list[str]):
    """The checked config and the work directory, in the processes of the run; programs made from
    here on are kept.

    Raises:
      UserError: one of them is missing or wrong, or more was given.
    """
    _check_arguments(argv)
    if _CONFIG.value is None:
        raise UserError(f"--config is missing; allowed: {known_configs()}")
    if not _WORKDIR.value:
        raise UserError("--workdir is missing; give a folder for checkpoints and results")
    # orbax and tensorflow-datasets log every save, and tracebacks of what is told in one line.
    logging.set_verbosity(logging.FATAL)
    from mmdjax.runtime import processes

    # Before anything is asked of JAX, which a check of the config may do.
    if _DISTRIBUTED.value or _COORDINATOR.value or _PROCESSES.value or _PROCESS.value >= 0:
        processes.start(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
        stopping.listen(several=True)
    from mmdjax import config
    from mmdjax.runtime.compilation import keep_programs

    checked = config.from_dict(_CONFIG.value.to_dict())
    keep_programs(checked.optimise)
    return checked, Path(_WORKDIR.value)


def known_configs() -> str:
    """The config files at hand, for messages."""
    hidden = ("base", "__init__")
    found = sorted(str(p) for p in Path("configs").rglob("*.py") if p.stem not in hidden)
    return ", ".join(found) or "a Python file with get_config()"


def parse_flags(argv: list[str]) -> list[str]:
    """absl's parser, with mistakes told in one line and the configs at hand."""
    try:
        rest = flags.FLAGS(argv)
        if _CONFIG.value is not None:
            _CONFIG.value.to_dict()  # a file that failed to load says so only when it is read
        return rest
    except OSError:
        given = next((a for a in argv if a.startswith("--config=")), "--config")
        raise UserError(f"{given} is not a readable file; allowed: {known_configs()}") from None
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        _refuse_former(argv)
        text = str(error.args[0] if error.args else error)
        raise UserError(" ".join(text.split())) from None
    except Exception as error:  # whatever else a user's own config file raises
        text = " ".join(str(error).split())
        raise UserError(f"--config failed with {type(error).__name__}: {text}") from None


def _refuse_former(argv: list[str]) -> None:
    """Raise `UserError` for a flag that names a config field of an earlier version."""
    from mmdjax.config.groups import RENAMED

    for name, instead in RENAMED.items():
        if any(a.startswith((f"--config.{name}=", f"-config.{name}=")) for a in argv):
            raise UserError(f"config.{name} has a new name; allowed: {instead}")


def _hook(unraisable) -> None:
    """Of a checkpoint that cannot be written, tensorstore reports each array to a loop that has
    closed after the first: hundreds of tracebacks, of what is told in one line."""
    if str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)


def console(run=main) -> None:
    """Runs `run(argv)`; a `UserError` is one line on stderr and exit status 2."""
    sys.unraisablehook = _hook
    try:
        app.run(run, flags_parser=parse_flags)
    except UserError as error:
        print(f"mmdjax: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:  # an unwritable cache, a full disk
        print(f"mmdjax: {error.filename or 'a file'}: {error.strerror or error}", file=sys.stderr)
        sys.exit(2)
    except RuntimeError as error:
        # An exchange of JAX's with a process that is no more.
        if not stopping.several() or type(error).__name__ != "JaxRuntimeError":
            raise
        reason = " ".join(str(error).split())[:300]
        print(f"mmdjax: another process has ended, or else: {reason}", file=sys.stderr, flush=True)
        os._exit(1)  # leaving in order would wait for it
    except stopping.Stopped as stopped:
        print(f"mmdjax: stopped by {stopped}; the same command goes on from here", file=sys.stderr)
        sys.exit(_STOPPED.value)
    except KeyboardInterrupt:
        print("mmdjax: interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    console()
