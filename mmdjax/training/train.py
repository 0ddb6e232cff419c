"""Training of any method: its phases in order, each resumed from its own checkpoints."""

from __future__ import annotations

import collections
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmdjax.training.checkpoints import PhaseStore
from mmdjax.training.loop import Fitted, Schedule, fit
from mmdjax.training.step import Trainer, make_trainer, prepare_step, steps_per_epoch
from mmdjax.training.streams import phase_keys, stream


class Trained(NamedTuple):
    """What training a method for a seed leaves.

    Attributes:
      params: phase -> its parameters.
      history: phase's title -> epoch, train, valid, best, seconds.
    """

    params: dict[str, Any]
    history: dict[str, dict]


class Known:
    """Fitted phases by their folder, so that systems that share a phase restore it once."""

    def __init__(self, most: int = 32) -> None:
        """most: phases that stay in memory."""
        self._most = most
        self._fitted: collections.OrderedDict[Path, Any] = collections.OrderedDict()

    def get(self, folder: Path, make: Callable[[], Any]) -> Any:
        """Return what `make` returned for this folder, of the latest `most`."""
        if folder not in self._fitted:
            self._fitted[folder] = make()
        self._fitted.move_to_end(folder)
        while len(self._fitted) > self._most:
            self._fitted.popitem(last=False)
        return self._fitted[folder]


def trainer_of(phase: Any, config: Any) -> Trainer:
    """Return the compiled training of a phase.

    Args:
      phase: `mmdjax.methods.method.Phase`. config: `mmdjax.config.Config`.
    """
    settings = phase.settings
    steps = steps_per_epoch(passed(phase), settings.batch) * settings.epochs
    return make_trainer(phase.loss, phase.settings, steps, config.mesh)


def passed(phase: Any) -> np.ndarray:
    """Return the bucket of each sample of an epoch: the data as often as it goes through them."""
    return np.tile(phase.bucket, phase.settings.passes)


def prepare(phase: Any, config: Any) -> None:
    """Start compiling a phase's training steps in the background, where their shapes are known."""
    if phase.expects is None:
        return
    params, source = phase.expects()
    trainer = trainer_of(phase, config)
    for index, frames in enumerate(phase.buckets):
        if (phase.bucket == index).any():
            prepare_step(trainer, params, source, phase.settings, frames)


def train(
    method: Any,
    seed: int,
    place: Callable[[str, tuple[str, ...]], Path],
    may_train: bool = True,
    known: Known | None = None,
) -> Trained:
    """Train a method for one seed; every phase goes on where it stopped.

    Args:
      method: `mmdjax.methods.method.Method`.
      place: (name, what it reads of the config) -> the folder of a phase.
      may_train: False in evaluation, where an unfinished phase is an error.
      known: phases fitted before, see `Known`.

    Raises:
      UserError: a loss is not finite, or a phase is unfinished and may not be trained.
    """
    known = known or Known()
    params: dict[str, Any] = {}
    history: dict[str, dict] = {}
    for phase in method.phases:
        folder = place(phase.name, phase.reads)
        fit_it = functools.partial(_fit, method, phase, params, seed, place, may_train)
        fitted = known.get(folder, fit_it)
        params[phase.name], history[phase.title] = fitted.params, fitted.history
    return Trained(params, history)


def _fit(
    method: Any,
    phase: Any,
    params: dict[str, Any],
    seed: int,
    place: Callable[[str, tuple[str, ...]], Path],
    may_train: bool,
) -> Fitted:
    config = method.config
    init, key = phase_keys(seed, phase.name)
    schedule = Schedule(
        name=f"seed {seed}: {phase.title}",
        bucket=passed(phase),
        buckets=phase.buckets,
        key=key,
        # The order of batches: a function of the seed, the phase's name and the epoch.
        seed=(seed, stream(phase.name)),
    )
    return fit(
        schedule,
        trainer_of(phase, config),
        phase.init(init, params),
        lambda: phase.load(params, seed, place),
        phase.settings,
        PhaseStore(place(phase.name, phase.reads), config.save_seconds, config.keep_last),
        method.reporter,
        may_train,
    )
