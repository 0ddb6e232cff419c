"""Checkpoints of one training phase (orbax): atomic, asynchronous, resumable to the last bit."""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp


class PhaseStore:
    """The newest checkpoints of one phase in `folder`.

    A checkpoint is a pytree of arrays and a JSON dict of plain values (epoch, history, ...).
    All randomness is derived from (seed, phase, epoch), so no iterator state is needed.
    """

    def __init__(self, folder: Path, save_seconds: float):
        self._save_seconds = save_seconds
        self._last = time.monotonic()
        self._manager = ocp.CheckpointManager(
            folder.absolute(), options=ocp.CheckpointManagerOptions(max_to_keep=2, create=True)
        )

    def restore(self, template) -> tuple[Any, dict] | None:
        """The newest (arrays, values), arrays shaped like `template`; None where there is none."""
        step = self._manager.latest_step()
        if step is None:
            return None
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, template)
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                arrays=ocp.args.StandardRestore(abstract), values=ocp.args.JsonRestore()
            ),
        )
        return restored["arrays"], restored["values"]

    def save(self, epoch: int, arrays, values: dict, force: bool = False) -> None:
        """Saves in the background, at most every `save_seconds` unless forced."""
        if not force and time.monotonic() - self._last < self._save_seconds:
            return
        self._last = time.monotonic()
        # The loop goes on while this is written: `values` must be a copy, or it would be newer
        # than the arrays.
        self._manager.save(
            epoch,
            args=ocp.args.Composite(
                arrays=ocp.args.StandardSave(arrays),
                values=ocp.args.JsonSave(copy.deepcopy(values)),
            ),
        )

    def __enter__(self) -> PhaseStore:
        return self

    def __exit__(self, *_) -> None:
        """Waits for a save under way, however the phase ended."""
        self._manager.wait_until_finished()
        self._manager.close()
