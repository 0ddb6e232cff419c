"""Train, compare and use systems that draw missing modalities.

  mmdjax --config=CONFIG --workdir=DIR [--mode=MODE] [--config.GROUP.FIELD=VALUE ...]

Modes:
  train     train what is not trained yet, evaluate, write DIR/report.html (the default)
  evaluate  evaluate a finished run again; trains nothing
  impute    fill the gaps of a file (--input) into a copy of it (--output)
  predict   write predictions with intervals for a file (--input) to a CSV file (--output)
  export    write the model of a run to one file that runs without mmdjax (--output)
  inspect   print what a file (--input) contains and the command that trains on it
  serve     answer over HTTP, with a page to try it: an exported model (--input) or --workdir
The last five need no --config; impute, predict and export use the model in --workdir.

Examples:
  mmdjax --config=quickstart --workdir=runs/quickstart
  mmdjax --mode=inspect --input=FILE
  mmdjax --config=auto --workdir=runs/mine --config.data.path=FILE \\
      --config.data.modalities="('text:language','audio:acoustic')"
  mmdjax --mode=predict --workdir=runs/mine --input=FILE --output=predictions.csv

{configs}
Exit status: 0 done, 1 failed, 2 invalid input (one line says which), 130 interrupted.
Several processes: --distributed, or --coordinator, --processes and --process (docs/pods.md).
--helpfull lists every flag.
"""

from __future__ import annotations

import os
import signal
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from mmdjax import shipped
from mmdjax.errors import UserError, choice, require
from mmdjax.runtime import stopping
from mmdjax.serving.http import settings

TRAINING = ("train", "evaluate")
SERVING = ("impute", "predict", "export", "inspect", "serve")
MODES = TRAINING + SERVING

_CONFIG = config_flags.DEFINE_config_file("config", None, "A file in configs/.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where everything is written.")
_MODE = flags.DEFINE_string("mode", "train", f"One of {', '.join(MODES)}.")
_FORCE = flags.DEFINE_bool("force", False, "Continue in a workdir that holds another config's run.")
_PROFILE = flags.DEFINE_bool("profile", False, "Leave traces of some steps in WORKDIR/profile.")
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "Join a run of several processes; detect which."
)
_COORDINATOR = flags.DEFINE_string("coordinator", "", "HOST:PORT of process 0.")
_PROCESSES = flags.DEFINE_integer("processes", 0, "How many there are.")
_PROCESS = flags.DEFINE_integer("process", -1, "Number of this one, from 0.")
_INPUT = flags.DEFINE_string("input", None, "A file or folder of features, of any known layout.")
_OUTPUT = flags.DEFINE_string("output", None, "Where the result is written; must not exist yet.")
_LAYOUT = flags.DEFINE_string(
    "layout", "", "Layout of --input, in place of detecting it (inspect)."
)
_DRAWS = flags.DEFINE_integer("draws", 0, "Draws of each gap; 0: 1 to impute, else the model's.")
_MODALITIES = flags.DEFINE_list(
    "modalities", [], "KEY:NAME of each modality that the file calls KEY (impute, predict)."
)
_SEED = flags.DEFINE_integer("seed", 0, "Random seed of the draws.")
_LEVEL = flags.DEFINE_float("level", 0.9, "Share of labels that intervals are to cover.")
flags.adopt_module_key_flags(settings)
_MODEL = flags.DEFINE_integer("model", -1, "Seed of the run whose model serves; -1: the first.")
_STOPPED = flags.DEFINE_integer(
    "stopped_status", 0, "Exit status after SIGTERM or SIGINT, for schedulers that take 0 for done."
)


def main(_: list[str]) -> None:
    choice("mode", _MODE.value, MODES)
    if _MODE.value in SERVING:
        serve()
        return
    stopping.listen()
    config, folder = configured()
    from mmdjax.run import run

    run(config, folder, _MODE.value == "train", _FORCE.value, _PROFILE.value)


def serve() -> None:
    """Run a mode of `SERVING`."""
    mode, source = _MODE.value, _INPUT.value
    needed = {"inspect": (_INPUT,), "export": (_WORKDIR, _OUTPUT), "serve": ()}
    for flag in needed.get(mode, (_WORKDIR, _INPUT, _OUTPUT)):
        if not flag.value:
            raise UserError(f"--{flag.name} is missing; --mode={mode} needs it")
    logging.set_verbosity(logging.FATAL)  # JAX tells which accelerators it has not found
    signal.signal(signal.SIGTERM, _terminated)
    from mmdjax.runtime.progress import Reporter, terminal

    if mode == "inspect":
        from mmdjax.data.formats.inspect_file import inspect

        inspect(source, terminal(), _LAYOUT.value)
        return
    from mmdjax.runtime.compilation import keep_programs

    keep_programs()
    seed = None if _MODEL.value < 0 else _MODEL.value
    draws, reporter = _DRAWS.value or None, Reporter()
    if mode == "serve":
        from mmdjax.serving.http.start import start

        start(source, _WORKDIR.value, seed, draws, _LEVEL.value, reporter.print)
        return
    from mmdjax.serving.imputer import Imputer

    imputer, output = Imputer.load(_WORKDIR.value, seed), Path(_OUTPUT.value)
    if mode == "export":
        from mmdjax.serving.export import export

        signature = export(imputer, output, draws, _LEVEL.value)
        platforms, size = ", ".join(signature["platforms"]), output.stat().st_size / 2**20
        reporter.print(
            f"{output}: {size:.1f} MiB for {platforms}, {signature['draws']} draws an answer; "
            "loader.py inside needs jax and numpy"
        )
        return
    from mmdjax.serving import files

    imputer.check_settings(draws, _SEED.value, _LEVEL.value)  # before the file is read
    with reporter.phase("utterances", 0) as phase:
        settings = {"seed": _SEED.value, "advance": phase.at, "renamed": renamed()}
        if mode == "impute":
            counts = files.impute(imputer, source, output, draws or 1, **settings)
        else:
            counts = files.predict(imputer, source, output, draws, level=_LEVEL.value, **settings)
    empty = f", {counts['empty']} with nothing observed, left out" if counts["empty"] else ""
    empty += f", {counts['long']} longer than the model's, left out" if counts["long"] else ""
    done = f"{counts['utterances']} utterances, {counts['completed']} of them had gaps"
    reporter.print(f"{output}: {done}{empty}")


def renamed() -> dict[str, str]:
    """Return modality -> its key in the file, as --modalities says."""
    for pair in _MODALITIES.value:
        problem = f"--modalities: {pair!r}"
        require(":" in pair, problem, "KEY:NAME,..., such as words:language,audio:acoustic")
    return {pair.rpartition(":")[2]: pair.rpartition(":")[0] for pair in _MODALITIES.value}


def _terminated(*_: object) -> None:
    """End as an exception does: temporary files are removed."""
    raise SystemExit(128 + signal.SIGTERM)


def configured() -> tuple:
    """Return the checked config and the work directory, in the processes of the run; programs made
    from here on are kept."""
    if _CONFIG.value is None:
        raise UserError(f"--config is missing; allowed: {known_configs()}")
    if not _WORKDIR.value:
        raise UserError("--workdir is missing; give a folder for checkpoints and results")
    # orbax and tensorflow-datasets log every save, and tracebacks of what is told in one line.
    logging.set_verbosity(logging.FATAL)
    from mmdjax.runtime import devices, processes
    from mmdjax.runtime.memory import keep_memory

    # Before anything is asked of JAX, which a check of the config may do.
    if _DISTRIBUTED.value or _COORDINATOR.value or _PROCESSES.value or _PROCESS.value >= 0:
        keep_memory(one_heap=True)
        processes.start(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
        stopping.listen(several=True)
    else:
        count = _CONFIG.value.to_dict().get("mesh", {}).get("cpu")
        devices.set_up_cpu(count if isinstance(count, int) else 1)  # others are refused below
    from mmdjax import config
    from mmdjax.runtime.compilation import keep_programs

    checked = config.from_dict(_CONFIG.value.to_dict())
    keep_programs(checked.optimise)
    return checked, Path(_WORKDIR.value)


def known_configs() -> str:
    """Return the configs at hand, for messages."""
    return f"a Python file with get_config(), or {', '.join(shipped.names())}"


def help_text() -> str:
    """Return the module's docstring with the names of the shipped configs."""
    names = ", ".join(name for name in shipped.names() if "/" not in name)
    configs = f"CONFIG is a Python file with get_config(), or a name: {names}."
    return __doc__.format(configs=textwrap.fill(configs, 100)).rstrip()


def parse_flags(argv: list[str]) -> list[str]:
    """Parse as absl does; tell mistakes in one line, with the configs at hand."""
    shipped.importable()
    try:
        rest = flags.FLAGS(shipped.with_path(argv))
        if _CONFIG.value is not None:
            _CONFIG.value.to_dict()  # a file that failed to load says so only when it is read
    except OSError:
        flag = next((a for a in argv if a.startswith("--config=")), "--config")
        raise UserError(f"{flag} is not a readable file; allowed: {known_configs()}") from None
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        from mmdjax.config import refuse_renamed

        fields = [a.lstrip("-").partition("=")[0] for a in argv if a.startswith("-")]
        refuse_renamed([f.removeprefix("config.") for f in fields if f.startswith("config.")])
        text = str(error.args[0] if error.args else error)
        raise UserError(" ".join(text.split())) from None
    except Exception as error:  # whatever else a user's own config file raises
        text = " ".join(str(error).split())
        raise UserError(f"--config failed with {type(error).__name__}: {text}") from None
    if len(rest) > 1:
        allowed = (
            "--config, --workdir, --mode, --force, --profile, --distributed, --input, --output"
        )
        raise UserError(f"argument {rest[1]!r} is unknown; allowed: {allowed}")
    return rest


def _hook(unraisable: sys.UnraisableHookArgs) -> None:
    """Leave out what tensorstore reports for each array of a checkpoint that cannot be written:
    hundreds of tracebacks of a closed loop, for what is told in one line."""
    if str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)


def console(run: Callable[[list[str]], None] = main) -> None:
    """Call `run(argv)`; a `UserError` is one line on stderr and exit status 2.

    Where nobody reads the output any more, as after `| head`, it ends with 1 and without a message,
    as rich does when it prints.
    """
    try:
        try:
            _called(run)
        finally:
            if sys.stdout:  # None where it was closed from the start
                sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more
        sys.exit(1)


def _called(run: Callable[[list[str]], None]) -> None:
    """Call `run(argv)` and end as the module's docstring says."""
    sys.unraisablehook = _hook
    if run is main and {"--help", "-help", "-h"} & set(sys.argv[1:]):
        print(help_text())
        sys.exit(0)
    try:
        app.run(run, flags_parser=parse_flags)
    except (UserError, OSError) as error:
        if isinstance(error, BrokenPipeError) and sys.stdout:
            sys.stdout.flush()  # raises the error again if it is of the output
        if isinstance(error, OSError):  # an unwritable cache, a full disk
            place = _OUTPUT.value if _MODE.value in SERVING else _WORKDIR.value
            error = f"{error.filename or place or 'a file'}: {error.strerror or error}"
        print(f"mmdjax: {error}", file=sys.stderr)
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
        rest = "nothing was written" if _MODE.value in SERVING else "the same command goes on"
        print(f"mmdjax: interrupted; {rest}", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    console()
