"""The folder of a run: one run at a time, one config, and the place of everything in it."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import operator
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmdjax import config as configs
from mmdjax.config.resolve import Resolved
from mmdjax.errors import UserError
from mmdjax.methods.method import ALWAYS, Method
from mmdjax.runtime import processes
from mmdjax.runtime.files import (
    load_arrays,
    load_json,
    locked,
    save_arrays,
    save_json,
    write_json,
)

# What changes how a run goes, not what comes out: another config of these may go on.
HOW = ("mesh", "save_seconds", "keep_last")
CONTENT = "data_fingerprint"
# What depends on all of a config, made anew from checkpoints where --force changes it.
DERIVED = ("masks", "systems", "figures", "tables", "pictures", "model")
DERIVED += (
    "results.json",
    "predictions.npz",
    "draw_costs.json",
    "report.md",
    "report.html",
    "card.png",
    "SHA256SUMS",
)


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

    def completion(self, method: Method) -> str:
        """Return a name of what the completions of a `Method` depend on, see its `completes`."""
        kind, *fields = method.completes or (method.name,)
        trained = {phase.name: phase.reads for phase in method.phases}
        reads = tuple(read for field in fields for read in trained.get(field, (field,)))
        return f"{kind}-{fingerprint(self._values(method.config), kind, reads)}"

    def system(self, resolved: Resolved) -> Path:
        """Return the folder of the results of a `Resolved`, by everything that they depend on."""
        values, defaults = self._values(resolved.config), configs.to_dict(configs.Config())
        for name in (*HOW, "title", "optimise", "seeds", "systems", "comparison"):
            del values[name]
        # A group at its defaults does not count: a new method's options leave old results where
        # they are.
        values = {name: value for name, value in values.items() if value != defaults[name]}
        return self.folder / "systems" / _digits(values)

    def _values(self, config: configs.Config) -> dict:
        values = configs.to_dict(config)
        # How much of the data is in memory changes nothing that comes out.
        return values | {"data": values["data"] | {"path": self.content, "buffer": 0}}


def fingerprint(values: dict, name: str, reads: tuple[str, ...]) -> str:
    """Return eight hexadecimal digits of a name and of what is read under it.

    Args:
      values: plain ones, from `mmdjax.config.to_dict`.
      reads: groups, or fields as 'group.field'; `ALWAYS` are read by everything.
    """
    keys = sorted({*ALWAYS, *reads})
    read = {key: functools.reduce(operator.getitem, key.split("."), values) for key in keys}
    # Named where it is on alone: phases of before there was such a choice keep their places.
    chosen = {"picked": "on test"} if values["evaluation"].get("as_published") else {}
    return _digits({"name": name, "reads": read} | chosen)


def _digits(values: dict) -> str:
    """Return eight hexadecimal digits of plain values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]


@contextlib.contextmanager
def opened(
    workdir: Path, config: configs.Config, content: str, force: bool = False
) -> Iterator[Places]:
    """Enter the work directory with this config in config.json, locked until the end.

    Args:
      content: names the data. force: take over one that holds another config.

    Raises:
      UserError: as `claim`; another run uses it.
    """
    with contextlib.ExitStack() as stack:
        refused = None
        if processes.is_first():
            try:
                _make(workdir)
                stack.enter_context(locked(workdir / ".lock"))
                claim(workdir, configs.to_dict(config) | {CONTENT: content}, force)
            except BlockingIOError as holder:
                problem = f"workdir {str(workdir)!r} is in use by {holder}"
                refused = UserError(f"{problem}; wait for its end, or give another folder")
            except (UserError, OSError) as error:  # the others have to hear of it
                refused = error
        if processes.agreed(refused is not None):
            raise refused or UserError("the first process cannot use the workdir, see its message")
        yield Places(workdir, content)


def _make(workdir: Path) -> None:
    """Make the folder; raise `UserError` where it cannot be made or written."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"workdir {str(workdir)!r} cannot be made: {error.strerror}") from None
    if not os.access(workdir, os.W_OK):
        raise UserError(f"workdir {str(workdir)!r} is not writable; give another folder")


def claim(workdir: Path, written: dict, force: bool = False) -> None:
    """Make the work directory that of one config, which is written to config.json.

    Args:
      force: where it holds another one, forget what depends on all of the config (`DERIVED`);
        checkpoints of phases that the change does not reach are used (`Places`).

    Raises:
      UserError: it holds a run of another config, or something else.
    """
    _make(workdir)
    path = workdir / "config.json"
    if path.exists():
        try:
            old, new = _deciding(json.loads(path.read_text())), _deciding(written)
        except (ValueError, AttributeError):
            problem = f"{str(path)!r} is not the config of a run"
            raise UserError(f"{problem}; give another folder") from None
        different = "; ".join(
            f"{name}: {old.get(name)!r} there, {new.get(name)!r} given"
            for name in sorted(old.keys() | new.keys())
            if old.get(name) != new.get(name)
        )
        if different and not force:
            raise UserError(
                f"workdir {str(workdir)!r} holds a run with another config ({different}); give "
                "another folder, the same config, or --force to go on with this one (phases that "
                "it changes are trained anew)"
            )
        for name in DERIVED if different else ():
            shutil.rmtree(workdir / name, ignore_errors=True)  # of a file: nothing
            if (workdir / name).is_file():
                (workdir / name).unlink()
    write_json(path, written)


def _deciding(written: dict) -> dict[str, Any]:
    """Return 'group.field' -> what results depend on: of the data their content, not their path.

    A field that the run did not know yet, such as the options of a new method, had its default.
    """
    fields = _flat(configs.to_dict(configs.Config())) | _flat(written)
    if CONTENT in fields:
        del fields["data.path"]
    return {name: value for name, value in fields.items() if name.split(".")[0] not in HOW}


def _flat(values: dict, where: str = "") -> dict[str, Any]:
    """Return 'a.b' -> value of nested dicts, in plain types as JSON has them."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        nested = isinstance(value, dict)
        flat |= _flat(value, f"{where}{name}.") if nested else {f"{where}{name}": value}
    return flat if where else json.loads(json.dumps(flat))


def kept(path: Path, make: Callable[[], Any], anew: bool = False) -> Any:
    """Return what a JSON file holds; the first process writes it where there is none.

    Args:
      make: called on every process, or on none. anew: write it even where there is one.
    """
    if not anew and processes.agreed(path.exists()):
        return load_json(path)
    value = make()
    if processes.is_first():
        save_json(path, value)
    return json.loads(json.dumps(value))  # others may not see the file yet


def keep_masks(path: Path, masks: dict) -> None:
    """Save the masks once; raise `UserError` where a later run draws other ones."""
    if not path.exists():
        return save_arrays(path, **masks)
    saved = load_arrays(path)
    if any(not np.array_equal(saved.get(rate), mask) for rate, mask in masks.items()):
        raise UserError(f"{path} holds other masks than this version draws; use a new workdir")
