"""Several systems in one run: whatever stages they have in common are trained once.

A phase lives in a folder named by what it reads of the config (`workdir.Places`), so systems find
each other's work and an interrupted run goes on.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import json
import time
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from mmdjax import config as configs
from mmdjax import workdir
from mmdjax.config.systems import METHODS as METHODS_SHOWN
from mmdjax.config.systems import NO_COMPARISON, changed
from mmdjax.data import pipeline
from mmdjax.errors import UserError, choice
from mmdjax.evaluation import published
from mmdjax.evaluation.comparison import write_report
from mmdjax.evaluation.comparison_charts import charts
from mmdjax.evaluation.comparison_tables import published_differs
from mmdjax.experiment import METHODS, machine, prepare_draws, rows_of
from mmdjax.methods.latent.draw import make_drawer
from mmdjax.methods.latent.initial import score_shapes
from mmdjax.methods.latent.modules import build
from mmdjax.methods.two_stage import TwoStage
from mmdjax.runtime import processes
from mmdjax.runtime.compilation import Counter, cancel_waiting
from mmdjax.runtime.devices import on_all_devices
from mmdjax.runtime.files import write_json
from mmdjax.runtime.progress import Reporter

ROUNDS = 5  # of timing
LIVE_PROGRAMS = 400  # some more of them exhaust a process' memory maps


def run(
    config: configs.Config,
    folder: Path,
    may_train: bool = True,
    force: bool = False,
    profile: bool = False,
) -> list[dict]:
    """Trains and evaluates every system of `config.comparison`, for every seed.

    Leaves config.json, checkpoints/, systems/, masks/, results.json, report.md, report.html and
    figures/ in `folder`.

    Args:
      force, profile: as `experiment.run`.

    Returns:
      The rows of results.json: those of a run, each with its 'system'; of several processes the
      first one has them.

    Raises:
      UserError: as `experiment.run`; a system or a published table that does not exist.
    """
    if not may_train:
        workdir.check_run(folder)
    systems = configs_of(config)
    for table in config.comparison.tables:
        published.results(table, config.comparison.dataset)
    # Its imports replace Python's own import for a while, which breaks tracing in another thread.
    importlib.import_module("mmdjax.data.builder")
    raw = pipeline.load(config.data)
    try:
        with workdir.opened(folder, config, pipeline.fingerprint(config.data), force) as places:
            return _run(config, systems, raw, places, may_train, profile)
    finally:
        cancel_waiting()


def _run(config, systems, raw, places, may_train: bool, profile: bool) -> list[dict]:
    started, counter, folder = time.monotonic(), Counter(), places.folder
    splits, reporter = pipeline.standardise(raw), Reporter()
    runs = runs_of(systems, config.comparison, places)
    done = {key: processes.agreed(run.finished()) for key, run in runs.items()}
    unfinished = [run for key, run in runs.items() if not (may_train and done[key])]
    known: dict = {}
    made = [_stages(run, splits, places, known, may_train, profile) for run in unfinished]
    dropped = 0
    for number, (run, stages) in enumerate(zip(unfinished, made, strict=True), 1):
        reporter.print(f"{number} of {len(unfinished)}: {run.names}")
        _evaluate(run, stages, config.comparison, raw["test"], places, may_train)
        for old in list(known)[: -len(config.seeds)]:  # the next system shares the last ones
            del known[old]
        if counter.programs - dropped > LIVE_PROGRAMS:
            jax.clear_caches()
            dropped = counter.programs
    cancel_waiting()
    drawing = {key: run.config for key, run in runs.items() if draws(run.config)}
    modalities = splits["train"].modalities
    costs = workdir.kept(
        folder / "draw_costs.json", lambda: draw_costs(drawing, modalities, reporter)
    )
    rows = []
    if processes.is_first():
        of = {s.name: places.system(systems[s.name]).name for s in config.comparison.systems}
        rows = [{"system": name} | row for name, key in of.items() for row in runs[key].results()]
        pictured = {name: runs[key].picture for name, key in of.items() if runs[key].picture}
        points = {name: json.loads(path.read_text()) for name, path in pictured.items()}
        minutes = (time.monotonic() - started) / 60
        count = {name: one.evaluation.draws for name, one in systems.items()}
        taken = {name: costs[key] for name, key in of.items() if key in costs}
        differing = published_differs(config, modalities)
        page = write_report(
            folder,
            config,
            count,
            rows,
            taken,
            modalities,
            machine(),
            [f"The command that wrote this report took {minutes:.1f} minutes.", *differing],
            charts(rows, config, count, taken) | _pictures(points, systems, modalities),
        )
        write_json(folder / "results.json", rows)  # at last: with it a run is finished
        reporter.print(f"{minutes:.1f} min; report: {page}")
    reporter.close()
    return rows


def configs_of(config: configs.Config) -> dict[str, configs.Config]:
    """System -> the config of its own run.

    Raises:
      UserError: names that are not different, other data, or values out of range.
    """
    base = configs.to_dict(dataclasses.replace(config, comparison=NO_COMPARISON))
    found = {}
    for system in config.comparison.systems:
        if not system.name or system.name in found:
            raise UserError(f"a system is named {system.name!r}; allowed: different names")
        one = configs.from_dict(changed(base, system.changes))
        choice(f"method of system {system.name!r}", system.method, METHODS_SHOWN)
        common = dataclasses.replace(one.evaluation, draws=config.evaluation.draws)
        same = (one.data, one.seeds, common, one.comparison)
        if same != (config.data, config.seeds, config.evaluation, NO_COMPARISON):
            raise UserError(
                f"system {system.name!r} changes data, seeds, rates, batch or comparison; "
                "these are the same for all"
            )
        found[system.name] = one
    return found


def draws(config: configs.Config) -> bool:
    return config.method == "imder" or "draws" in config.fills


class Run(NamedTuple):
    """What is trained and evaluated once, for all systems that differ in what is shown only.

    Attributes:
      key: of its folder in systems/.
      rows: seed -> file of its result rows. picture: file of t-SNE points, or None.
    """

    key: str
    names: str
    config: configs.Config
    rows: dict[int, Path]
    picture: Path | None

    def finished(self) -> bool:
        return all(path.exists() for path in (*self.rows.values(), self.picture) if path)

    def results(self) -> list[dict]:
        return [row for path in self.rows.values() for row in json.loads(path.read_text())]


def runs_of(systems: dict[str, configs.Config], comparison, places) -> dict[str, Run]:
    """Key -> run, in the systems' order."""
    names: dict[str, list[str]] = {}
    for name, one in systems.items():
        names.setdefault(places.system(one).name, []).append(name)
    runs = {}
    for key, of_key in names.items():
        one = systems[of_key[0]]
        own = places.system(one)
        rows = {seed: own / f"seed_{seed}.json" for seed in one.seeds}
        picture = own / "pictures.json" if comparison.pictures and draws(one) else None
        runs[key] = Run(key, ", ".join(of_key), one, rows, picture)
    return runs


def _stages(run: Run, splits, places, known: dict, may_train: bool, profile: bool):
    """What trains a run; its programs compile in the background, while others train."""
    own = places.system(run.config)
    reporter = Reporter(own / "tensorboard", own / "profile" if profile else None)
    prepare_draws(run.config)
    stages = METHODS[run.config.method].stages(TwoStage(run.config, splits, reporter), known)
    first = places.phases(run.config, run.config.seeds[0])
    if may_train and not first(stages.prepared).exists():
        stages.prepare()
    return stages


def _evaluate(run: Run, stages, comparison, raw_test, places, may_train: bool) -> None:
    """Trains what is not trained, and leaves the files of a run."""
    for seed, path in run.rows.items():
        trained = stages.train(seed, places.phases(run.config, seed), may_train)
        rows_of(stages.system, trained, seed, path, places.folder, raw_test, may_train)
        if run.picture:  # of the first seed
            make = functools.partial(_embedded, stages.system, trained, seed, comparison)
            workdir.kept(run.picture, make)
    stages.system.reporter.close()


def _pictures(found, systems, modalities) -> dict:
    if not found:
        return {}
    from mmdjax.evaluation.effectiveness import pictures

    return pictures(found, systems, modalities)


def _embedded(system, trained, seed: int, comparison) -> dict:
    from mmdjax.evaluation.effectiveness import embedded  # openTSNE takes seconds to import

    total = len(system.modalities) * (comparison.iterations // 50)
    with system.reporter.phase("t-SNE pictures", total) as progress:
        return embedded(system, trained, seed, comparison, progress.advance)


def draw_costs(runs: dict[str, configs.Config], modalities, reporter) -> dict[str, dict]:
    """Seconds for a thousand draws of one modality given all others, and what they take.

    Zeros as parameters take as long as trained ones. Runs take turns, so that all see the same
    machine.

    Args:
      runs: key -> config of a run that draws.

    Returns:
      key -> {'seconds', 'quartiles', 'nfe', 'parameters' of one modality's network, 'batch'}.
    """
    calls, costs = {}, {}
    with reporter.phase("time of draws", (ROUNDS + 1) * len(runs)) as progress:
        for key, config in runs.items():
            calls[key], costs[key] = _draw_call(config, modalities)
            costs[key]["nfe"] = int(calls[key]()[1])
            progress.advance()
        seconds = {key: [] for key in runs}
        for _ in range(ROUNDS):
            for key, call in calls.items():
                started = time.perf_counter()
                jax.block_until_ready(call())
                seconds[key].append(1000 * (time.perf_counter() - started) / costs[key]["batch"])
                progress.advance()
    for key, taken in seconds.items():
        low, middle, high = np.quantile(taken, (0.25, 0.5, 0.75))
        costs[key] |= {"seconds": float(middle), "quartiles": [float(low), float(high)]}
    return costs


def _draw_call(config: configs.Config, modalities):
    """() -> (draws, NFE) of a full batch, and what is known of it without a clock."""
    modules, batch = build(config, modalities), config.evaluation.batch
    drawer, others = make_drawer(modules, config.diffusion), len(modalities) - 1
    frames, channels = config.latents.frames, config.latents.channels
    ids = np.tile(np.arange(1, others + 1, dtype=np.int32), (batch, 1))
    condition = np.zeros((batch, others, frames, channels), np.float32)
    masks = np.ones((batch, frames), bool), np.ones((batch, others, frames), bool)
    params = jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), score_shapes(modules.score))
    params = on_all_devices(params, batch)
    keys, target = jax.random.split(jax.random.key(0), (1, batch, 1)), np.zeros(1, np.int32)
    rest = (condition, ids, *masks, keys, drawer.grid, np.float32(config.diffusion.guidance))
    count = sum(a.size for a in jax.tree.leaves(params)) // len(modalities)
    return lambda: drawer.draw(params, target, *rest), {"parameters": count, "batch": batch}
