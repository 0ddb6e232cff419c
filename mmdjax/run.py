"""A run: one or more systems on one data set, trained, evaluated and reported side by side.

A phase lives in a folder named by what it reads of the config (`workdir.Places`), so systems find
each other's work and an interrupted run goes on.
"""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from mmdjax import config as configs
from mmdjax import workdir
from mmdjax.config.resolve import Resolved, picked_on_test, systems_of
from mmdjax.config.sizes import automatic, sized
from mmdjax.data import pipeline
from mmdjax.data.dataset import Dataset
from mmdjax.data.stored import is_stored
from mmdjax.errors import UserError, require
from mmdjax.evaluation import published
from mmdjax.evaluation.conditions import Condition, conditions_of, left_out
from mmdjax.evaluation.costs import draw_costs
from mmdjax.evaluation.evaluate import Member, evaluate
from mmdjax.evaluation.summary import commands, report_run, sections_of
from mmdjax.methods.method import Method, Phase
from mmdjax.runtime import processes, sums
from mmdjax.runtime.compilation import Counter, cancel_waiting
from mmdjax.runtime.files import save_arrays, write_json
from mmdjax.runtime.progress import Reporter
from mmdjax.serving import bundle
from mmdjax.training.train import Known, Trained, prepare, train

LIVE_PROGRAMS = 400  # some more of them exhaust a process' memory maps


class System(NamedTuple):
    """A system of a run: what it is, the method built for it, and where its results are kept."""

    name: str
    resolved: Resolved
    method: Method
    folder: Path

    def results(self, seed: int) -> Path:
        return self.folder / f"seed_{seed}.json"

    def predictions(self, seed: int) -> Path:
        return self.folder / f"seed_{seed}.npz"

    @property
    def fan(self) -> Path:
        """Draws of a few test utterances, of the first seed."""
        return self.folder / "fan.npz"


def run(
    config: configs.Config,
    folder: Path,
    may_train: bool = True,
    force: bool = False,
    profile: bool = False,
) -> list[dict]:
    """Train and evaluate every system for every seed; go on where an earlier run stopped.

    Leaves config.json, checkpoints/, systems/, masks/, tensorboard/, results.json, predictions.npz,
    report.md, report.html, card.png, figures/, tables/ and model/ in `folder`.

    Args:
      may_train: False to evaluate a finished run again.
      force: take over a folder that holds a run of another config.
      profile: leave traces of some training steps in profile/.

    Returns:
      The rows of results.json, in the first of several processes.

    Raises:
      UserError: bad data, another run in `folder`, a loss that is not finite, or a system that does
        not exist or cannot do what is asked of it.
    """
    if not may_train and not (folder / "config.json").exists():
        raise UserError(f"workdir {str(folder)!r} holds no run to evaluate; run --mode=train first")
    resolved, counter = systems_of(config), Counter()
    for table in config.comparison.tables:
        published.results(table, config.comparison.dataset)
    try:
        # Its imports replace Python's own import for a while, which breaks tracing in a thread.
        importlib.import_module("mmdjax.data.builder")
        names = pipeline.modality_names(config.data)
        _warm(resolved[0], names)
        streams = all(system.method.streams for system in resolved)
        dataset = pipeline.dataset(config.data, config.task, streams=streams)
        for system in resolved:
            kinds, kind = system.method.tasks, dataset.task.kind
            problem = f"method {system.method.name!r} with a task of kind {kind!r}"
            fits = not kinds or kind in kinds
            require(fits, f"system {system.name!r}: {problem}", ", ".join(kinds))
        resolved = [dataclasses.replace(r, config=sized(r.config, dataset)) for r in resolved]
        for system in resolved:
            system.method.check(system.config)
        with workdir.opened(folder, config, dataset.content, force) as places:
            config = sized(config, dataset)
            reporter = Reporter(folder / "tensorboard", folder / "profile" if profile else None)
            return _run(config, resolved, dataset, places, may_train, reporter, counter)
    finally:
        cancel_waiting()


def _run(
    config: configs.Config,
    resolved: Sequence[Resolved],
    dataset: Dataset,
    places: workdir.Places,
    may_train: bool,
    reporter: Reporter,
    counter: Counter,
) -> list[dict]:
    started, folder = time.monotonic(), places.folder
    sizes = ", ".join(f"{name} {len(batch)}" for name, batch in dataset.splits.items())
    names = ", ".join(dataset.modalities)
    reporter.print(f"{config.title}: {sizes} utterances; {names}; {dataset.task.summary}")
    if said := left_out(config.evaluation, len(dataset.modalities)):
        reporter.print(said)
    systems, twins, reporters = _built(resolved, dataset, places, reporter), [], [reporter]
    if config.evaluation.as_published:
        size = len(dataset.splits["test"])
        problem = f"config.evaluation.as_published with a test split of {size} utterances, beyond "
        fits = not is_stored(dataset.splits["test"])
        require(fits, problem + "config.data.buffer", "a larger buffer, or False")
        again = [picked_on_test(s.resolved) for s in systems if s.method.phases]
        reporters.append(Reporter(folder / "tensorboard" / "picked_on_test"))  # the same tags
        twins = _built(again, dataset.picked_on_test, places, reporters[-1])
    groups: dict[str, list[System]] = {}
    for system in (*systems, *twins):  # those whose completions agree are completed once
        groups.setdefault(places.completion(system.method), []).append(system)
    if may_train and not (folder / "checkpoints").exists():
        cancel_waiting()  # draws come after the training that they wait for
        _prepare(itertools.chain(*groups.values()), config)
        _warm(resolved[0], dataset.modalities)
    known, dropped = Known(), 0

    def trained(system: System, seed: int) -> Trained:
        place = places.phase(system.resolved.config, seed)
        return train(system.method, seed, place, may_train, known)

    for group in groups.values():
        for seed in config.seeds:
            unfinished = [
                s for s in group if not may_train or not processes.agreed(s.results(seed).exists())
            ]
            if unfinished:
                conditions = conditions_of(dataset, config.evaluation, seed)
                phases = {system.name: trained(system, seed) for system in unfinished}
                _evaluate(unfinished, phases, conditions, seed, folder / "masks")
        if counter.programs - dropped > LIVE_PROGRAMS:
            jax.clear_caches()
            dropped = counter.programs
    main = systems[0]
    for seed in config.seeds if main.method.serving and not config.comparison.systems else ():
        target = folder / "model" / f"seed_{seed}"
        if not may_train or not processes.agreed((target / bundle.NAMES[0]).exists()):
            params = trained(main, seed).params
            bundle.publish(main.method, params, seed, target, dataset.content)
    cancel_waiting()
    timed = {s.name: s.method for s in systems if s.method.draws and config.comparison.systems}
    costs = workdir.kept(folder / "draw_costs.json", lambda: draw_costs(timed, reporter))
    extra, rows = sections_of(config, systems, dataset, places, known, reporter), []
    if processes.is_first():
        minutes = (time.monotonic() - started) / 60
        shown = systems, twins
        for path in sums.changed(folder):
            reporter.print(f"{path} does not match {sums.NAME}; it is written again")
        rows = report_run(config, *shown, dataset, places, costs, extra, minutes, reporter)
        write_json(folder / "results.json", rows)  # at last: with it a run is finished
        sums.write(folder)
    reporter.print(str(counter))
    minutes = (time.monotonic() - started) / 60
    reporter.print(f"{minutes:.1f} min; report: {folder / 'report.html'}")
    if (folder / "model").is_dir():
        reporter.print(f"model: {folder / 'model'}; to use it:\n{commands(folder)}")
    for each in reporters:
        each.close()
    return rows


def _built(
    resolved: Iterable[Resolved], dataset: Dataset, places: workdir.Places, reporter: Reporter
) -> list[System]:
    return [
        System(r.name, r, r.method(r.config, dataset, reporter), places.system(r)) for r in resolved
    ]


def _warm(main: Resolved, names: tuple[str, ...]) -> None:
    """Start compiling what the config alone tells the shapes of."""
    if not automatic(main.config):
        main.method.warm(main.config, names)


def _prepare(systems: Iterable[System], config: configs.Config) -> None:
    """Start compiling every training step in the background, in the order of use."""
    phases: dict[tuple, Phase] = {}
    for system in systems:
        for phase in system.method.phases:
            phases.setdefault((phase.name, phase.loss, phase.settings), phase)
    for phase in phases.values():
        prepare(phase, config)


def _evaluate(
    systems: Sequence[System],
    trained: Mapping[str, Trained],
    conditions: Sequence[Condition],
    seed: int,
    masks: Path,
) -> None:
    """Evaluate systems whose completions agree, and keep the results of each and the masks.

    Args:
      trained: name -> what training left. masks: the folder of masks.
    """
    if processes.is_first():
        hidden = {name: a for condition in conditions for name, a in condition.masks().items()}
        workdir.keep_masks(masks / f"seed_{seed}.npz", hidden)
    members = [
        Member(s.name, s.method, trained[s.name].params, s.resolved.config.evaluation.draws)
        for s in systems
    ]
    predictions: dict[str, dict] = {}
    drawn: dict[str, dict] = {}
    rows = evaluate(members, conditions, seed, predictions=predictions, fans=drawn)
    for system in systems:
        if processes.is_first():  # before the rows, which say that all is there
            save_arrays(system.predictions(seed), **predictions[system.name])
            if system.method.draws and seed == system.resolved.config.seeds[0]:
                save_arrays(system.fan, **drawn.get(system.name, {}))
        history = trained[system.name].history
        cost = {"system": system.name, "method": system.method.name, "protocol": "cost"}
        costs = [
            cost | {"condition": title, "seed": seed, "metric": "seconds", "value": each["seconds"]}
            for title, each in history.items()
        ]
        weights = sum(np.size(a) for a in jax.tree.leaves(trained[system.name].params))
        if weights:
            place = {"condition": "all phases", "seed": seed}
            costs.append(cost | place | {"metric": "parameters", "value": weights})
        results = {"rows": rows[system.name] + costs, "history": history}
        workdir.kept(system.results(seed), lambda results=results: results, anew=True)
