"""The folder of a run: one run at a time, one config, and the place of everything in it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmdjax import config as configs
from mmdjax.errors import UserError
from mmdjax.methods.method import ALWAYS
from mmdjax.runtime import processes
from mmdjax.runtime.files import load_arrays, locked, save_arrays, write_json

# What changes how a run goes, not what comes out: another config of these may go on.
HOW = ("mesh", "save_seconds", "keep_last")
CONTENT = "data_fingerprint"
# What depends on all of a config, made anew from checkpoints where --force changes it.
DERIVED = ("masks", "systems", "figures", "results.json", "draw_costs.json", "model")
DERIVED += ("report.md", "report.html", "pictures")


class Places(NamedTuple):
    """Where the parts of a run are, named by what they depend on: nothing is mixed.

    Attributes:
      folder: the work directory. content: names the data, wherever the file stands.
    """

    folder: Path
    content: str

    def phase(self, config: configs.Config, seed: int) -> Callable[[str, tuple[str, ...]], Path]:
        """Return (name, reads) -> the folder of a phase, by what it reads of the config: systems
        find what they share."""
        values, checkpoints = self._values(config), self.folder / "checkpoints"

        def place(name: str, reads: tuple[str, ...]) -> Path:
            return checkpoints / f"{name}-{fingerprint(values, name, reads)}" / f"seed_{seed}"

        return place

    def completion(self, system) -> str:
        """Return a name of what the completions of a system depend on; see `Method.completes`.

        Args:
          system: `mmdjax.methods.method.Method`.
        """
        values = self._values(system.config)
        kind, *parts = system.completes
        trained = {phase.name: phase.reads for phase in system.phases}
        reads = tuple(r for part in parts for r in trained.get(part, (part,)))
        return f"{kind}-{fingerprint(values, kind, reads)}"

    def system(self, resolved) -> Path:
        """Return the folder of a system's results, by everything that they depend on.

        Args:
          resolved: `mmdjax.config.resolve.Resolved`.
        """
        values = self._values(resolved.config)
        for name in (*HOW, "title", "optimise", "seeds", "systems", "comparison"):
            del values[name]
        # A group at its defaults does not count: a new method's options leave old results where
        # they are.
        defaults = configs.to_dict(configs.Config())
        values = {name: value for name, value in values.items() if value != defaults[name]}
        text = json.dumps(values, sort_keys=True)
        return self.folder / "systems" / hashlib.sha256(text.encode()).hexdigest()[:8]

    def _values(self, config: configs.Config) -> dict:
        values = configs.to_dict(config)
        return values | {"data": values["data"] | {"path": self.content}}


def fingerprint(values: dict, name: str, reads: tuple[str, ...]) -> str:
    """Return eight hexadecimal digits of a name and of what is read under it.

    Args:
      values: plain ones, from `mmdjax.config.to_dict`.
      reads: groups, or fields as 'group.field'; `ALWAYS` are read by everything.
    """
    read = {key: _value(values, key) for key in sorted({*ALWAYS, *reads})}
    text = json.dumps({"name": name, "reads": read}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _value(values: dict, key: str):
    for part in key.split("."):
        values = values[part]
    return values


@contextlib.contextmanager
def opened(
    workdir: Path, config: configs.Config, content: str, force: bool = False
) -> Iterator[Places]:
    """The work directory with this config in config.json, locked until the end.

    Args:
      content: names the data. force: take over one that holds another config.

    Raises:
      UserError: as `claim`; another run uses it.
    """
    with contextlib.ExitStack() as stack:
        refused = None
        if processes.is_first():
            try:
                make(workdir)
                stack.enter_context(locked(workdir / ".lock"))
                claim(workdir, configs.to_dict(config) | {CONTENT: content}, force)
            except BlockingIOError as holder:
                refused = UserError(
                    f"workdir {str(workdir)!r} is in use by {holder}; wait for its end, or give "
                    "another folder"
                )
            except (UserError, OSError) as error:  # the others have to hear of it
                refused = error
        if processes.agreed(refused is not None):
            raise refused or UserError("the first process cannot use the workdir, see its message")
        yield Places(workdir, content)


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
      force: where it holds another one, forget what depends on all of the config (`DERIVED`);
        checkpoints of phases that the change does not reach are used (`Places`).

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
        for name in DERIVED if different else ():
            shutil.rmtree(workdir / name, ignore_errors=True)  # of a file: nothing
            if (workdir / name).is_file():
                (workdir / name).unlink()
    write_json(path, written)


def _result(written: dict) -> dict:
    """What results depend on: of the data their content, not their path.

    A field that the run did not know yet, such as the options of a new method, had its default.
    """
    written = with_defaults(configs.to_dict(configs.Config()), written)
    kept = {name: value for name, value in written.items() if name not in HOW}
    if CONTENT in kept and "data" in kept:
        kept["data"] = kept["data"] | {"path": ""}
    return kept


def with_defaults(defaults: dict, values: dict) -> dict:
    """Return values, in plain types as JSON has them, with what they lack taken from defaults."""
    plain = json.loads(json.dumps(defaults))
    filled = {k: v for k, v in plain.items() if k not in values}
    for name, value in values.items():
        nested = isinstance(value, dict) and isinstance(plain.get(name), dict)
        filled[name] = with_defaults(plain[name], value) if nested else value
    return filled


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
