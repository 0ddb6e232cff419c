"""A run: one or more systems on one data set, trained, evaluated and reported side by side.

A phase lives in a folder named by what it reads of the config (`workdir.Places`), so systems find
each other's work and an interrupted run goes on.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from mmdjax import config as configs
from mmdjax import workdir
from mmdjax.config.resolve import Resolved, main_system, systems_of
from mmdjax.data import pipeline
from mmdjax.data.dataset import Dataset
from mmdjax.errors import UserError
from mmdjax.evaluation import published
from mmdjax.evaluation.conditions import conditions_of
from mmdjax.evaluation.costs import draw_costs
from mmdjax.evaluation.evaluate import Member, evaluate
from mmdjax.evaluation.summary import report_run, sections_of
from mmdjax.methods.method import Method
from mmdjax.runtime import processes
from mmdjax.runtime.compilation import Counter, cancel_waiting
from mmdjax.runtime.files import write_json
from mmdjax.runtime.progress import Reporter
from mmdjax.serving import bundle
from mmdjax.serving.bundle import publish
from mmdjax.training.train import Known, prepare, train

LIVE_PROGRAMS = 400  # some more of them exhaust a process' memory maps


class System(NamedTuple):
    """A system of a run: what it is, the method built for it, and where its results are kept."""

    resolved: Resolved
    method: Method
    folder: Path

    @property
    def name(self) -> str:
        return self.resolved.name

    def results(self, seed: int) -> Path:
        return self.folder / f"seed_{seed}.json"


def run(
    config: configs.Config,
    folder: Path,
    may_train: bool = True,
    force: bool = False,
    profile: bool = False,
) -> list[dict]:
    """Train and evaluate every system for every seed; go on where an earlier run stopped.

    Leaves config.json, checkpoints/, systems/, masks/, tensorboard/, results.json, report.md,
    report.html, figures/ and model/ in `folder`.

    Args:
      may_train: False to evaluate a finished run again.
      force: take over a folder that holds a run of another config.
      profile: leave traces of some training steps in profile/.

    Returns:
      The rows of results.json; of several processes the first one has them.

    Raises:
      UserError: bad data, another run in `folder`, a loss that is not finite, or a system that does
        not exist or cannot do what is asked of it.
    """
    if not may_train:
        workdir.check_run(folder)
    resolved, counter = systems_of(config), Counter()
    for table in config.comparison.tables:
        published.results(table, config.comparison.dataset)
    try:
        # Its imports replace Python's own import for a while, which breaks tracing in a thread.
        importlib.import_module("mmdjax.data.builder")
        names = pipeline.modality_names(config.data)
        for system in resolved[:1]:
            system.method.warm(system.config, names)
        dataset = pipeline.dataset(config.data, config.task)
        _check(resolved, dataset)
        with workdir.opened(folder, config, dataset.content, force) as places:
            reporter = Reporter(folder / "tensorboard", folder / "profile" if profile else None)
            return _run(config, resolved, dataset, places, may_train, reporter, counter)
    finally:
        cancel_waiting()


def _check(resolved: Sequence[Resolved], dataset: Dataset) -> None:
    """Raise `UserError` where a system cannot do the task."""
    for system in resolved:
        kinds = system.method.tasks
        if kinds and dataset.task.kind not in kinds:
            raise UserError(
                f"system {system.name!r}: method {system.method.name!r} with a task of kind "
                f"{dataset.task.kind!r}; allowed: {', '.join(kinds)}"
            )


def _run(config, resolved, dataset, places, may_train: bool, reporter, counter) -> list[dict]:
    started, folder = time.monotonic(), places.folder
    sizes = ", ".join(f"{name} {len(batch)}" for name, batch in dataset.splits.items())
    reporter.print(f"{config.title}: {sizes} utterances; {', '.join(dataset.modalities)}")
    systems = [System(r, r.method(r.config, dataset, reporter), places.system(r)) for r in resolved]
    groups = _groups(systems, places)
    if may_train and not (folder / "checkpoints").exists():
        _prepare(groups, config)
    known, dropped = Known(), 0
    for group in groups:
        for seed in config.seeds:
            _of_seed(group, seed, config, dataset, places, may_train, known)
        if counter.programs - dropped > LIVE_PROGRAMS:
            jax.clear_caches()
            dropped = counter.programs
    _publish(systems[0], config, dataset, places, may_train, known)
    cancel_waiting()
    timed = {s.name: s.method for s in systems if s.method.draws and config.comparison.systems}
    costs = workdir.kept(folder / "draw_costs.json", lambda: draw_costs(timed, reporter))
    extra, rows = sections_of(config, systems, dataset, places, known, reporter), []
    if processes.is_first():
        minutes = (time.monotonic() - started) / 60
        rows = report_run(config, systems, dataset, places, costs, extra, minutes, reporter)
        write_json(folder / "results.json", rows)  # at last: with it a run is finished
    reporter.print(str(counter))
    minutes = (time.monotonic() - started) / 60
    reporter.print(f"{minutes:.1f} min; report: {folder / 'report.html'}")
    reporter.close()
    return rows


def _groups(systems: Sequence[System], places) -> list[list[System]]:
    """Systems whose completions agree, in the order of the first of each."""
    groups: dict[str, list[System]] = {}
    for system in systems:
        groups.setdefault(places.completion(system.method), []).append(system)
    return list(groups.values())


def _prepare(groups, config) -> None:
    """Start compiling every training step in the background, in the order of use."""
    seen = set()
    for group in groups:
        for system in group:
            for phase in system.method.phases:
                key = (phase.name, phase.loss, phase.settings)
                if key not in seen:
                    seen.add(key)
                    prepare(phase, config)


def _of_seed(group, seed, config, dataset, places, may_train, known) -> None:
    """Train a group for one seed, evaluate it, and keep the results of each system."""
    open_systems = [
        s for s in group if not may_train or not processes.agreed(s.results(seed).exists())
    ]
    if not open_systems:
        return
    members, trained = [], {}
    for system in open_systems:
        place = places.phase(system.resolved.config, seed)
        trained[system.name] = train(system.method, seed, place, may_train, known)
        draws = system.resolved.config.evaluation.draws
        members.append(Member(system.name, system.method, trained[system.name].params, draws))
    conditions = conditions_of(dataset, config.evaluation, seed)
    if processes.is_first():
        masks: dict[str, np.ndarray] = {}
        for condition in conditions:
            masks |= condition.masks()
        workdir.keep_masks(places.folder / "masks" / f"seed_{seed}.npz", masks)
    rows = evaluate(members, conditions, seed)
    for system in open_systems:
        history = trained[system.name].history
        own = rows[system.name] + [
            {
                "system": system.name,
                "method": system.method.name,
                "protocol": "cost",
                "condition": title,
                "seed": seed,
                "metric": "seconds",
                "value": curves["seconds"],
            }
            for title, curves in history.items()
        ]
        value = {"rows": own, "history": history}
        workdir.kept(system.results(seed), lambda value=value: value, anew=True)


def _publish(system: System, config, dataset, places, may_train: bool, known) -> None:
    """Write the model of the run's first system for every seed, if it can be served."""
    if not system.method.serving or config.comparison.systems:
        return
    for seed in config.seeds:
        target = places.folder / "model" / f"seed_{seed}"
        if may_train and processes.agreed((target / bundle.NAMES[0]).exists()):
            continue
        trained = train(system.method, seed, places.phase(config, seed), may_train, known)
        publish(system.method, trained.params, seed, target, dataset.content)


def train_and_publish(config, dataset: Dataset, folder: Path, seed: int) -> Path:
    """Train `config.method` on a data set in memory and write its model.

    Args:
      dataset: with splits 'train' and 'valid'.
      folder: the work directory.

    Returns:
      The model's folder.

    Raises:
      UserError: as `run`; the method cannot be served.
    """
    system = main_system(config)
    system.method.check(system.config)
    with workdir.opened(folder, config, dataset.content) as places:
        reporter = Reporter(folder / "tensorboard")
        method = system.method(system.config, dataset, reporter)
        trained = train(method, seed, places.phase(config, seed))
        target = folder / "model" / f"seed_{seed}"
        publish(method, trained.params, seed, target, dataset.content)
        reporter.close()
        processes.meet("model")
    return target
