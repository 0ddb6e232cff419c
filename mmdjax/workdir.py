"""The folder of a run: one run at a time, one config, and the place of everything in it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mmdjax import config as configs
from mmdjax import processes
from mmdjax.errors import UserError
from mmdjax.files import load_arrays, locked, save_arrays, write_json
from mmdjax.methods.phases import fingerprint

# What changes how a run goes, not what comes out: another config of these may go on.
HOW = ("mesh", "save_seconds", "keep_last")
CONTENT = "data_fingerprint"


@contextlib.contextmanager
def opened(workdir: Path, written: dict, force: bool = False) -> Iterator[None]:
    """The work directory with this config in config.json, locked until the end.

    Args:
      written: what config.json is to hold. force: take over one that holds another config.

    Raises:
      UserError: as `claim`; another run uses it.
    """
    with contextlib.ExitStack() as stack:
        refused = None
        if processes.is_first():
            try:
                make(workdir)
                stack.enter_context(locked(workdir / ".lock"))
                claim(workdir, written, force)
            except BlockingIOError as holder:
                refused = UserError(
                    f"workdir {str(workdir)!r} is in use by {holder}; wait for its end, or give "
                    "another folder"
                )
            except (UserError, OSError) as error:  # the others have to hear of it
                refused = error
        if processes.agreed(refused is not None):
            raise refused or UserError("the first process cannot use the workdir, see its message")
        yield


def make(workdir: Path) -> None:
    """Raises `UserError` where it cannot be made or written."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"workdir {str(workdir)!r} cannot be made: {error.strerror}") from None
    if not os.access(workdir, os.W_OK):
        raise UserError(f"workdir {str(workdir)!r} is not writable; give another folder")


def claim(workdir: Path, written: dict, force: bool = False) -> None:
    """Makes the work directory that of one config, which it writes to config.json.

    Args:
      force: where it holds another one, forget what depends on all of the config; checkpoints of
        phases that the change does not reach are used (`place_of`).

    Raises:
      UserError: it holds a run of another config, or something else.
    """
    make(workdir)
    path = workdir / "config.json"
    if path.exists():
        try:
            old, given = json.loads(path.read_text()), json.loads(json.dumps(written))
            different = sorted(differences(_result(old), _result(given)))
        except (ValueError, AttributeError):
            raise UserError(
                f"{str(path)!r} is not the config of a run; give another folder"
            ) from None
        if different and not force:
            raise UserError(
                f"workdir {str(workdir)!r} holds a run with another config "
                f"({'; '.join(different)}); give another folder, the same config, or --force to go "
                "on with this one (phases that it changes are trained anew)"
            )
        if old.get("data") == given.get("data") and old.get(CONTENT) != given.get(
            CONTENT
        ):  # which the names of phases do not tell
            raise UserError(
                f"workdir {str(workdir)!r} holds a run on other content of the same data file; "
                "give another folder"
            )
        if different:
            shutil.rmtree(workdir / "masks", ignore_errors=True)
            (workdir / "results.json").unlink(missing_ok=True)
    write_json(path, written)


def _result(written: dict) -> dict:
    return {name: value for name, value in written.items() if name not in HOW}


def differences(old: dict, new: dict, where: str = "") -> list[str]:
    """'a.b: 1 there, 2 given' for each value that differs between two trees."""
    result = []
    for key in old.keys() | new.keys():
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            result += differences(a, b, f"{where}{key}.")
        elif a != b:
            result.append(f"{where}{key}: {a!r} there, {b!r} given")
    return result


def check_run(workdir: Path) -> None:
    """Raises `UserError` where there is no run to evaluate."""
    if not (workdir / "config.json").exists():
        raise UserError(
            f"workdir {str(workdir)!r} holds no run to evaluate; run --mode=train first"
        )


def place_of(workdir: Path, config: configs.Config, seed: int) -> Callable[[str], Path]:
    """Phase -> its folder, named by what the phase reads of the config: systems find what they
    share, and nothing is mixed."""
    values = configs.to_dict(config)
    return lambda phase: (
        workdir / "checkpoints" / f"{phase}-{fingerprint(values, phase)}" / f"seed_{seed}"
    )


def system_of(config: configs.Config) -> str:
    """Name of a system's folder in systems/: by everything that its results depend on."""
    values = configs.to_dict(config)
    for name in (*HOW, "title", "optimise", "seeds"):
        del values[name]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]


def kept(path: Path, make: Callable[[], Any], anew: bool = False) -> Any:
    """What a JSON file holds; the first process writes it where there is none.

    Args:
      make: called on every process, or on none. anew: write it even where there is one.
    """
    if anew or not processes.agreed(path.exists()):
        value = make()
        if processes.is_first():
            write_json(path, value)
        return json.loads(json.dumps(value))  # others may not see the file yet
    return json.loads(path.read_text())


def keep_masks(path: Path, masks: dict) -> None:
    """Saves the masks once; raises `UserError` where a later run draws other ones."""
    if path.exists():
        old = load_arrays(path)
        if any(not np.array_equal(old.get(rate), mask) for rate, mask in masks.items()):
            raise UserError(f"{path} holds other masks than this version draws; use a new workdir")
        return
    save_arrays(path, **masks)
