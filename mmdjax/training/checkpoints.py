"""Checkpoints of one training phase (orbax): atomic, asynchronous, resumable to the last bit.

A checkpoint is a pytree of numpy arrays, equal in every process, and a JSON dict of plain values
(position, history, seeds, settings). All randomness is derived from (seed, phase, epoch, step), so
there is no iterator to save. Nothing in it tells of devices and processes: any number goes on.
"""

from __future__ import annotations

import copy
import itertools
import re
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from mmdjax.errors import UserError
from mmdjax.runtime import processes, stopping


class _Manager(ocp.CheckpointManager):
    def reached_preemption(self, step: int) -> bool:
        """Asking JAX's service counts as a check of `stopping`, which has its own numbers."""
        return False


class PhaseStore:
    """The newest checkpoints of one phase in `folder`; open inside `with`."""

    def __init__(self, folder: Path, save_seconds: float = 0.0, keep: int = 2) -> None:
        """save_seconds: `due` not before. keep: so many are left."""
        self._folder, self._save_seconds, self._keep = folder.absolute(), save_seconds, keep

    def __enter__(self) -> PhaseStore:
        options = ocp.CheckpointManagerOptions(max_to_keep=self._keep, create=True)
        self._manager = _Manager(self._folder, options=options)
        self._last = time.monotonic()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Waits for a save under way, however the phase ended.

        Raises:
          UserError: it could not be written, and nothing else went wrong.
        """
        try:
            self._manager.close()
        except Exception as error:
            # A run that was stopped must not say that it is saved.
            if kind is None or issubclass(kind, stopping.Stopped):
                raise _unsaved(self._folder, error) from error

    def due(self) -> bool:
        """Whether the last save is long enough ago, by the first process' clock."""
        return bool(processes.agreed(time.monotonic() - self._last >= self._save_seconds))

    def save(self, step: int, arrays: Any, values: dict, networks: str = "") -> None:
        """Saves in the background; `step` tells places in a run apart, one that is kept is kept.

        Args:
          arrays: pytree of numpy arrays, which nobody changes afterwards.
          networks: tells whose numbers they are; only the same ones restore them.

        Raises:
          UserError: this or the save before could not be written; older ones are left as they are.
        """
        self._last = time.monotonic()
        if processes.agreed(step in self._manager.all_steps()):
            return
        about = {"networks": networks + _shapes(arrays), "sum": _checksum(arrays)}
        # The loop goes on while this is written: `values` must be a copy, or it would be newer
        # than the arrays.
        try:
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    arrays=ocp.args.StandardSave(arrays),
                    values=ocp.args.JsonSave(copy.deepcopy(values) | {"about": about}),
                ),
                force=True,
            )
        except Exception as error:
            raise _unsaved(self._folder, error) from error

    def restore(
        self, template: Any, report: Callable[[str], None] = print, networks: str = ""
    ) -> tuple[Any, dict] | None:
        """The newest sound (arrays, values), arrays of numpy as in `template`; None where there is
        none. One that cannot be read, or holds other numbers than were saved, is set aside and
        reported.

        Args:
          networks: as they were saved with.

        Raises:
          UserError: it was made by other networks.
        """
        # The first process chooses: on a network's file system others may see an older list.
        while (step := int(processes.agreed(max(self._manager.all_steps(), default=-1)))) >= 0:
            arrays, values, reason = None, None, ""
            try:
                arrays, values = self._restored(step, template, networks)
                if _checksum(arrays) != values.pop("about")["sum"]:
                    reason = "its numbers are not those that were saved"
            except (UserError, MemoryError, PermissionError, jax.errors.JaxRuntimeError):
                raise  # nothing is said about the file
            except Exception as error:  # whatever a damaged file leads to
                reason = f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
            if processes.all_agree(not reason):
                return arrays, values
            self._set_aside(step, reason or "for another process", report)
            self._manager.reload()
        return None

    def _restored(self, step: int, template: Any, networks: str) -> tuple[Any, dict]:
        json_only = ocp.args.Composite(values=ocp.args.JsonRestore())
        values = self._manager.restore(step, args=json_only)["values"]
        if values["about"]["networks"] != networks + _shapes(template):
            raise UserError(
                f"checkpoint {step} in {str(self._folder)!r} is of other networks than the "
                "config's; allowed: the same ones, or a new workdir"
            )
        template = jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), template)
        restore = ocp.args.Composite(arrays=ocp.args.StandardRestore(template))
        return self._manager.restore(step, args=restore)["arrays"], values

    def _set_aside(self, step: int, reason: str, report: Callable[[str], None]) -> None:
        name = f"{self._folder.name}-damaged-{step}"
        names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
        free = map(self._folder.with_name, names)
        damaged = next(folder for folder in free if not folder.exists())
        processes.meet("a damaged checkpoint was read")
        if processes.is_first():
            (self._folder / str(step)).rename(damaged)
        processes.meet("a damaged checkpoint is set aside")
        report(f"checkpoint {step} in {self._folder} is damaged ({reason}); moved to {damaged}")


def _unsaved(folder: Path, error: Exception) -> UserError:
    text = " ".join(str(error).split())
    of_system = re.search(r": ([^:[]+) \[os_error_code", text)  # told by tensorstore, at its end
    reason = of_system[1] if of_system else text[:200]
    return UserError(
        f"a checkpoint in {str(folder)!r} cannot be written ({reason}); make room, then give the "
        "same command: it goes on from the checkpoint before"
    )


def _shapes(tree: Any) -> str:
    """Names and shapes of everything in a pytree, to tell other networks from damage."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return "; ".join(f"{jax.tree_util.keystr(p)} {a.dtype}{list(a.shape)}" for p, a in leaves)


def _checksum(tree: Any) -> int:
    """Of every byte and its place."""
    total = 0
    for leaf in jax.tree.leaves(tree):
        total = zlib.crc32(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8), total)
    return total
