"""The only training loop: epochs, validation, early stopping, checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmdjax.errors import UserError
from mmdjax.training.checkpoints import PhaseStore
from mmdjax.training.step import State, Trainer, plan_epoch, steps_per_epoch


class Fitted(NamedTuple):
    """params: those of the best validation. history: epoch, train, valid lists, best, seconds."""

    params: dict
    history: dict


def fit(
    name: str,
    trainer: Trainer,
    params,
    load: Callable,
    bucket: np.ndarray,
    buckets: Sequence[int],
    settings,
    key,
    seed: Sequence[int],
    store: PhaseStore,
    reporter,
    may_train: bool = True,
) -> Fitted:
    """Trains until `settings.epochs` or until validation has not improved for `patience` epochs.

    Goes on from the newest checkpoint in `store`. Batches, dropout and noise are functions of
    (seed, epoch, step), so an interrupted run ends with the numbers of an uninterrupted one.

    Args:
      name: of the phase, for messages.
      trainer: from `make_trainer`.
      params: initial parameters.
      load: () -> (data, validate), called where something is left to train. data: pytree of arrays
        for the loss. validate: averaged parameters -> float, lower is better.
      bucket, buckets: see `plan_epoch`.
      settings: `mmdjax.config.Training`.
      key, seed: of this phase, for noise and for the order of batches.
      store: where checkpoints go.
      reporter: `mmdjax.training.progress.Reporter`.
      may_train: False in evaluation, where an unfinished phase is an error.

    Raises:
      UserError: the loss is not finite; the phase is unfinished and may not be trained.
    """
    state = trainer.init(params)
    best = jax.tree.map(np.asarray, params)
    values = {"epoch": 0, "wait": 0, "best_value": math.inf, "done": False, "seconds": 0.0}
    values |= {"history": {"epoch": [], "train": [], "valid": [], "best": 0}}
    saved = store.restore({"state": state, "best": best})
    if saved is not None:
        state, best, values = State(*saved[0]["state"]), saved[0]["best"], saved[1]
    if not values["done"] and not may_train:
        raise UserError(f"{name} is not trained to the end in this workdir; run --mode=train first")
    history = values["history"]
    if not values["done"]:
        data, validate = load()
        data = jax.tree.map(jnp.asarray, data)
    total = settings.epochs * steps_per_epoch(bucket, settings.batch)
    with reporter.phase(name, total) as progress:
        progress.start_at(values["epoch"] * steps_per_epoch(bucket, settings.batch))
        while not values["done"]:
            started, epoch = time.monotonic(), values["epoch"]
            plan = plan_epoch(
                bucket, buckets, settings.batch, np.random.default_rng([*seed, epoch])
            )
            epoch_key, losses = jax.random.fold_in(key, epoch), []
            for index, rows in enumerate(plan):
                step_key = jax.random.fold_in(epoch_key, index)
                state, loss = trainer.step(
                    state, data, rows.rows, rows.weight, step_key, frames=rows.frames
                )
                losses.append(loss)
                progress.advance()
            train = float(np.sum(jax.device_get(losses))) * settings.batch / len(bucket)
            valid = float(validate(state.average))
            if not (math.isfinite(train) and math.isfinite(valid)):
                raise UserError(
                    f"{name}: loss {train}, validation {valid} in epoch {epoch + 1}; it must be "
                    "finite (use a lower learning_rate, in a new workdir)"
                )
            for field, value in (("epoch", epoch + 1), ("train", train), ("valid", valid)):
                history[field].append(value)
            values["epoch"], values["wait"] = epoch + 1, values["wait"] + 1
            if valid < values["best_value"]:
                values["best_value"], values["wait"], history["best"] = valid, 0, epoch + 1
                best = jax.device_get(state.average)
            values["done"] = (
                values["epoch"] >= settings.epochs or values["wait"] >= settings.patience
            )
            values["seconds"] += time.monotonic() - started
            progress.epoch(values["epoch"], train, valid)
            store.save(
                values["epoch"], {"state": state, "best": best}, values, force=values["done"]
            )
    return Fitted(best, history | {"seconds": values["seconds"]})
