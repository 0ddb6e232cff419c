"""A trace of some steps in the middle of training, for TensorBoard or Perfetto (`--profile`)."""

from __future__ import annotations

from pathlib import Path

import jax

FIRST, STEPS = 10, 20  # what comes before is compiling and warming up


class Trace:
    """Records steps FIRST to FIRST + STEPS - 1 of a phase in `folder`; nothing without one."""

    def __init__(self, folder: Path | None):
        self._folder, self._step, self._recording = folder, 0, False

    def step(self, state) -> None:
        """Told of each step; state: what it made, still being computed."""
        if self._folder is None:
            return
        self._step += 1
        if self._step == FIRST:
            jax.block_until_ready(state)
            options = jax.profiler.ProfileOptions()
            options.python_tracer_level = 0  # every call of Python: slower than small steps are
            jax.profiler.start_trace(str(self._folder), profiler_options=options)
            self._recording = True
        elif self._step == FIRST + STEPS:
            self.end(state)

    def end(self, state) -> None:
        """Ends it early, where the phase has fewer steps."""
        if self._recording:
            jax.block_until_ready(state)
            jax.profiler.stop_trace()
            self._recording = False
