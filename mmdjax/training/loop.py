"""The only training loop: epochs, validation, early stopping, checkpoints."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from mmdjax.errors import UserError
from mmdjax.runtime import processes, stopping
from mmdjax.training.checkpoints import PhaseStore
from mmdjax.training.reading import in_turn
from mmdjax.training.state import State, from_host, to_host
from mmdjax.training.step import Rows, Source, Trainer, plan_epoch, steps_per_epoch, where_of
from mmdjax.types import Params

if TYPE_CHECKING:
    from mmdjax.runtime.progress import Reporter
    from mmdjax.training.settings import Training


class Schedule(NamedTuple):
    """Which batches a phase of training takes, in which order, with which randomness.

    Attributes:
      name: for messages.
      bucket, buckets: see `plan_epoch`.
      key, seed: for noise, and for the order of batches.
    """

    name: str
    bucket: np.ndarray
    buckets: Sequence[int]
    key: jax.Array
    seed: Sequence[int]


class Fitted(NamedTuple):
    """params: those of the best validation. history: epoch, train, valid lists, best, seconds."""

    params: dict
    history: dict


def fit(
    schedule: Schedule,
    trainer: Trainer,
    params: Params,
    load: Callable[[], tuple[Source, Callable]],
    settings: Training,
    store: PhaseStore,
    reporter: Reporter,
    may_train: bool = True,
) -> Fitted:
    """Trains until `settings.epochs` or until validation has not improved for `patience` epochs.

    Goes on from the newest checkpoint in `store`, in the middle of an epoch where a signal stopped
    it there. Batches, dropout and noise are functions of (seed, epoch, step), so an interrupted run
    ends with the numbers of an uninterrupted one.

    Args:
      trainer: from `make_trainer`.
      params: initial parameters.
      load: () -> (source, validate), called where something is left to train. validate: averaged
        parameters, whole on one device -> float, lower is better.
      settings: `mmdjax.config.Training`.
      store: where checkpoints go, not yet open.
      reporter: `mmdjax.runtime.progress.Reporter`.
      may_train: False in evaluation, where an unfinished phase is an error.

    Raises:
      UserError: the loss is not finite; the phase is unfinished and may not be trained; a
        checkpoint cannot be written.
      Stopped: by a signal; what was done is saved.
    """
    name, place = schedule.name, trainer.placement
    state = trainer.init(params)
    layout = state.layout
    best = layout.flat(jax.device_get(params), layout.size)
    values: dict[str, Any] = {
        "epoch": 0,
        "step": 0,
        "wait": 0,
        "best_value": math.inf,
        "done": False,
    }
    values |= {"seconds": 0.0, "history": {"epoch": [], "train": [], "valid": [], "best": 0}}
    # Read once: in the loop it would wait for the steps under way.
    words = where_of(schedule.key, 0, 0)[:2]
    made_with = {"seed": list(schedule.seed), "key": words.tolist()}
    values |= made_with | {"settings": dataclasses.asdict(settings)}
    with stopping.deferred(), store:
        template = {"state": to_host(place, state), "best": best}
        saved = store.restore(template, reporter.print, str(layout))
        if saved is not None:
            best, values = saved[0]["best"], saved[1]
            state = from_host(place, state, saved[0]["state"])
            if {k: values[k] for k in made_with} != made_with:
                raise UserError(f"{name}: the checkpoint is of another seed; give a new workdir")
        if not values["done"] and not may_train:
            raise UserError(
                f"{name} is not trained to the end in this workdir; run --mode=train first"
            )
        if values["done"]:
            done = values["history"] | {"seconds": values["seconds"]}
            return Fitted(layout.unflat(best), done)
        source, validate = load()
        common, own = place.copied(source.common), place.own_rows(settings.batch)

        def taken(state: State, epoch: int, index: int, rows: Rows, batch) -> State:
            batch, weight = place.batch((batch, rows.weight[own]))
            where = np.array([*words, epoch, index], np.uint32)
            made = trainer.step(state, batch, common, weight, where, frames=rows.frames)
            return place.settled(made)

        def save() -> None:
            if int(state.broken):  # it has nothing to go on from
                return
            # An epoch's last step and its validation are two places to go on from.
            place_in_run = values["epoch"] * (per_epoch + 1) + values["step"]
            arrays = {"state": to_host(place, state), "best": best}
            store.save(place_in_run, arrays, values, str(layout))

        history, per_epoch = values["history"], steps_per_epoch(schedule.bucket, settings.batch)
        with reporter.phase(name, settings.epochs * per_epoch) as progress:
            progress.start_at(values["epoch"] * per_epoch + values["step"])
            trace = reporter.trace(name)
            while not values["done"]:
                started, epoch = time.monotonic(), values["epoch"]
                rng = np.random.default_rng([*schedule.seed, epoch])
                plan = plan_epoch(schedule.bucket, schedule.buckets, settings.batch, rng)
                left = range(values["step"], len(plan))
                # A process reads no rows but its own.
                batches = in_turn(source, [plan[index].rows[own] for index in left])
                try:
                    for index, batch in zip(left, batches, strict=True):
                        stopping.check()
                        state = taken(state, epoch, index, plan[index], batch)
                        values["step"] = index + 1
                        progress.advance()
                        trace.step(state.steps)
                    stopping.check()
                    # What is decided by it has to be decided alike.
                    average = place.host(state.average)[: layout.size]
                    valid = validate(jax.device_put(layout.unflat(average)))
                    valid = float(processes.agreed(valid))
                except stopping.Stopped:
                    values["seconds"] += time.monotonic() - started
                    save()
                    raise
                train = float(state.total) * settings.batch / len(schedule.bucket)
                _finite(name, state, valid, epoch)
                for field, value in (("epoch", epoch + 1), ("train", train), ("valid", valid)):
                    history[field].append(value)
                values["epoch"], values["step"] = epoch + 1, 0
                values["wait"] += 1
                if valid < values["best_value"]:
                    values["best_value"], values["wait"], history["best"] = valid, 0, epoch + 1
                    best = average
                values["done"] = (
                    values["epoch"] >= settings.epochs or values["wait"] >= settings.patience
                )
                values["seconds"] += time.monotonic() - started
                progress.epoch(values["epoch"], train, valid)
                if values["done"] or store.due():
                    save()
            trace.end(state.steps)
    return Fitted(layout.unflat(best), history | {"seconds": values["seconds"]})


def _finite(name: str, state: State, valid: float, epoch: int) -> None:
    broken = int(state.broken)
    if not broken and math.isfinite(valid):
        return
    what = f"the training loss was not finite at step {broken}"
    if not broken:
        what = f"the validation loss was {valid} after step {int(state.steps)}"
    raise UserError(
        f"{name}: {what}, in epoch {epoch + 1}; the last checkpoint is kept (use a lower "
        "learning_rate, in a new workdir)"
    )
