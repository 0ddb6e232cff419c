"""A run: one or more systems on one data set, trained, evaluated and reported side by side.

A phase lives in a folder named by what it reads of the config (`workdir.Places`), so systems find
each other's work and an interrupted run goes on.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from mmdjax import config as configs
from mmdjax import workdir
from mmdjax.config.resolve import Resolved, systems_of
from mmdjax.data import pipeline
from mmdjax.data.dataset import Dataset
from mmdjax.errors import UserError
from mmdjax.evaluation import findings, published, report, tables
from mmdjax.evaluation.conditions import conditions_of
from mmdjax.evaluation.evaluate import Member, evaluate, with_regrets
from mmdjax.methods.method import Method
from mmdjax.runtime import processes
from mmdjax.runtime.compilation import Counter, cancel_waiting
from mmdjax.runtime.files import write_json
from mmdjax.runtime.progress import Reporter
from mmdjax.serving import bundle
from mmdjax.serving.publish import publish
from mmdjax.training.train import Known, Trained, prepare, train

ROUNDS = 5  # of timing draws
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
    drawing = [s for s in systems if s.method.draws]
    timed = drawing if config.comparison.systems else []
    costs = workdir.kept(folder / "draw_costs.json", lambda: draw_costs(timed, reporter))
    rows = []
    if processes.is_first():
        rows = _report(config, systems, dataset, places, costs, known, started, reporter)
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
    if type(system.method).served is Method.served or config.comparison.systems:
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
    (system, *_) = systems_of(config)
    with workdir.opened(folder, config, dataset.content) as places:
        reporter = Reporter(folder / "tensorboard")
        method = system.method(system.config, dataset, reporter)
        trained = train(method, seed, places.phase(config, seed))
        target = folder / "model" / f"seed_{seed}"
        publish(method, trained.params, seed, target, dataset.content)
        reporter.close()
        processes.meet("model")
    return target


def _report(config, systems, dataset, places, costs, known, started, reporter) -> list[dict]:
    """Write the report; return all rows."""
    rows, history = [], {}
    for system in systems:
        for seed in config.seeds:
            kept = json.loads(system.results(seed).read_text())
            # Systems that are the same but for their name share a file.
            rows += [r | {"system": system.name} for r in kept["rows"]]
            history |= {f"{phase}, seed {seed}": h for phase, h in kept["history"].items()}
    for seed in config.seeds:
        for condition in conditions_of(dataset, config.evaluation, seed):
            if condition.protocol != "fixed":
                rate = condition.missing_rate(dataset.splits["test"].valid)
                rows.append(_protocol_row(condition, seed, rate))
    rows = with_regrets(rows, dataset.task)
    sections, figures = _sections(config, systems, dataset, places, known, rows, reporter)
    minutes = (time.monotonic() - started) / 60
    report.write_report(
        places.folder,
        rows,
        systems=[shown(s) for s in systems],
        task=dataset.task,
        modalities=dataset.modalities,
        title=config.title,
        config=configs.to_dict(config),
        comparison=config.comparison,
        costs=costs,
        history=history,
        machine=machine(),
        notes=[f"The command that wrote this report took {minutes:.1f} minutes."],
        extra=(sections, figures),
    )
    own = [shown(s) for s in systems]
    complete = config.comparison.complete
    results = tables.results(rows, own, dataset.task, dataset.modalities, complete)
    header, body = findings.averages(results)
    reporter.print(tables.rich_table("Average over the availability patterns", header, body))
    return rows


def _protocol_row(condition, seed: int, rate: float) -> dict:
    return {
        "system": "protocol",
        "method": "protocol",
        "protocol": condition.protocol,
        "condition": condition.name,
        "seed": seed,
        "metric": "missing_rate",
        "value": rate,
    }


def shown(system: System) -> tables.Shown:
    """Return what tables and figures know of a system."""
    cls = type(system.method)
    return tables.Shown(
        system.name,
        cls.name,
        system.resolved.published,
        cls.draws,
        system.resolved.config.evaluation.draws,
        cls.yardstick,
    )


def _sections(config, systems, dataset, places, known, rows, reporter):
    """What methods add to the report: sections, and figures by name."""
    sections, figures, seed = [], {}, config.seeds[0]

    def trained(system: System) -> Trained:
        place = places.phase(system.resolved.config, seed)
        return train(system.method, seed, place, False, known)

    for module in dict.fromkeys(s.method.pages for s in systems if s.method.pages):
        system = next(s for s in systems if s.method.pages == module)
        make = importlib.import_module(module).sections
        own, drawn = make(system.method, trained(system).params, seed, rows)
        sections, figures = [*sections, *own], figures | drawn
    if config.comparison.pictures:
        from mmdjax.evaluation import effectiveness  # openTSNE takes seconds to import

        total = effectiveness.steps(config.comparison, dataset.modalities)
        embedded = {}
        for system in (s for s in systems if s.method.draws):

            def make(system=system):
                params = trained(system).params
                with reporter.phase(f"t-SNE pictures of {system.name}", total) as progress:
                    return effectiveness.embedded(
                        system.method, params, seed, config.comparison, progress.advance
                    )

            embedded[system.name] = workdir.kept(system.folder / "pictures.json", make)
        own, drawn = effectiveness.sections(embedded, dataset.modalities)
        sections, figures = [*sections, *own], figures | drawn
    return sections, figures


def draw_costs(systems: Sequence[System], reporter) -> dict[str, dict]:
    """Return what a thousand draws of one modality given all others cost, by system.

    Systems take turns, so that all see the same machine.

    Returns:
      name -> {'seconds', 'quartiles', 'nfe', 'parameters' of one modality's network, 'batch'}.
    """
    calls, costs = {}, {}
    for system in systems:
        measured = system.method.draw_call()
        if measured is not None:
            calls[system.name], costs[system.name] = measured
    with reporter.phase("time of draws", (ROUNDS + 1) * len(calls)) as progress:
        for name, call in calls.items():
            costs[name]["nfe"] = int(np.max(call()[1]))
            progress.advance()
        seconds: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(ROUNDS):
            for name, call in calls.items():
                begun = time.perf_counter()
                jax.block_until_ready(call())
                spent = time.perf_counter() - begun
                seconds[name].append(1000 * spent / costs[name]["batch"])
                progress.advance()
    for name, spent in seconds.items():
        low, middle, high = np.quantile(spent, (0.25, 0.5, 0.75))
        costs[name] |= {"seconds": float(middle), "quartiles": [float(low), float(high)]}
    return costs


@functools.cache
def machine() -> dict[str, str]:
    """Return where numbers were made."""
    device = jax.devices()[0]
    packages = ("jax", "flax", "optax", "orbax-checkpoint", "numpy")
    of_processes = f", {jax.process_count()} processes" if processes.several() else ""
    return {
        "processor": f"{platform.machine()}, {os.cpu_count()} cores",
        "device": f"{jax.device_count()} x {device.device_kind} ({device.platform}){of_processes}",
        "python": sys.version.split()[0],
    } | {name: importlib.metadata.version(name) for name in packages}
