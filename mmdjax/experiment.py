"""A run: data, training and evaluation of every seed, and the report in the work directory."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax

from mmdjax import config as configs
from mmdjax import workdir
from mmdjax.data import pipeline
from mmdjax.evaluation import conversations, graph_report, report, tables
from mmdjax.evaluation.evaluate import evaluate
from mmdjax.evaluation.gap_protocol import gap_rows
from mmdjax.methods.graph_stages import GraphStages
from mmdjax.methods.graph_system import GraphSystem
from mmdjax.methods.imder import Imder
from mmdjax.methods.latent.draw import make_drawer, prepare
from mmdjax.methods.latent.modules import build
from mmdjax.methods.stages import Stages
from mmdjax.methods.two_stage import TwoStage
from mmdjax.runtime import processes
from mmdjax.runtime.compilation import Counter, cancel_waiting
from mmdjax.runtime.files import write_json
from mmdjax.runtime.progress import Reporter
from mmdjax.serving import bundle
from mmdjax.serving.publish import publish
from mmdjax.serving.publish_graph import publish_conversations


class Method(NamedTuple):
    """How a method is run.

    Attributes:
      stages: trains its system for a seed.
      begin: (config), what goes on while data load.
      load: config.data -> splits. fingerprint: (config.data, splits) -> name of the data.
      system: (config, splits, reporter).
      evaluate: (system, trained, seed, test split) -> rows of results.json, masks.
      sections: (system, rows, trained, seed) -> `extra` of `report.write_report`.
      publish: see `serving.publish.publish`.
    """

    stages: Callable
    begin: Callable
    load: Callable
    fingerprint: Callable
    system: Callable
    evaluate: Callable
    sections: Callable
    publish: Callable


def prepare_draws(config: configs.Config) -> None:
    """Starts compiling the draws, if the run draws: their shapes are known from the config."""
    # Its imports replace Python's own import, which breaks tracing in another thread.
    importlib.import_module("mmdjax.data.builder")
    if config.method == "imder" or "draws" in config.fills:
        modules = build(config, pipeline.modality_names(config.data))
        prepare(make_drawer(modules, config.diffusion), modules, config)


def _two_stage(config, raw, reporter) -> TwoStage:
    return TwoStage(config, pipeline.standardise(raw), reporter)


_UTTERANCES = Method(
    Stages,
    prepare_draws,
    pipeline.load,
    lambda data, _: pipeline.fingerprint(data),
    _two_stage,
    evaluate,
    lambda *_: ((), {}),
    publish,
)
METHODS = {
    "two_stage": _UTTERANCES,
    "imder": _UTTERANCES._replace(stages=Imder),
    "gsdnet": Method(
        GraphStages,
        lambda config: None,
        pipeline.load_conversations,
        lambda _, raw: pipeline.fingerprint_of(raw),
        GraphSystem,
        conversations.evaluate,
        graph_report.sections,
        publish_conversations,
    ),
}


def run(
    config: configs.Config,
    folder: Path,
    may_train: bool = True,
    force: bool = False,
    profile: bool = False,
) -> list[dict]:
    """Trains and evaluates every seed; goes on where an earlier run in `folder` stopped.

    Leaves config.json, checkpoints/, systems/, masks/, tensorboard/, results.json, report.md,
    report.html, figures/ and model/ in `folder`.

    Args:
      force: take over a folder that holds a run of another config.
      profile: leave traces of some training steps in profile/.

    Returns:
      The rows of results.json.

    Raises:
      UserError: bad data, another run in `folder`, a loss that is not finite.
    """
    if not may_train:
        workdir.check_run(folder)
    counter, method = Counter(), METHODS[config.method]
    try:
        method.begin(config)
        raw = method.load(config.data)
        name = method.fingerprint(config.data, raw)
        with workdir.opened(folder, config, name, force) as places:
            reporter = Reporter(folder / "tensorboard", folder / "profile" if profile else None)
            return _run(config, places, may_train, raw, reporter, counter)
    finally:
        cancel_waiting()


def _run(config, places, may_train: bool, raw, reporter, counter: Counter) -> list[dict]:
    method, started, folder = METHODS[config.method], time.monotonic(), places.folder
    sizes = ", ".join(f"{name} {len(batch)}" for name, batch in raw.items())
    reporter.print(f"{config.title}: {sizes} utterances; {', '.join(raw['train'].modalities)}")
    system = method.system(config, raw, reporter)
    stages = method.stages(system)
    if may_train and not (folder / "checkpoints").exists():
        stages.prepare()
    rows, history, first = [], {}, None
    for seed in config.seeds:
        trained = stages.train(seed, places.phases(config, seed), may_train)
        first = first or trained
        finished = places.system(config) / f"seed_{seed}.json"
        rows += rows_of(system, trained, seed, finished, folder, raw["test"], may_train)
        if trained.score:
            made = folder / "model" / f"seed_{seed}"
            if not may_train or not processes.agreed((made / bundle.NAMES[0]).exists()):
                method.publish(system, trained, seed, raw["train"], made, places.content)
        history |= {f"{phase}, seed {seed}": h for phase, h in trained.history.items()}
    extra = method.sections(system, rows, first, config.seeds[0])
    minutes = (time.monotonic() - started) / 60
    if processes.is_first():
        report.write_report(
            folder,
            rows,
            modalities=system.modalities,
            title=config.title,
            config=configs.to_dict(config),
            machine=machine(),
            history=history,
            notes=[f"The command that wrote this report took {minutes:.1f} minutes."],
            extra=extra,
        )
        write_json(folder / "results.json", rows)  # at last: with it a run is finished
    header, body = tables.main_table(rows, system.modalities)
    reporter.print(tables.rich_table("Average over the availability patterns", header, body))
    drawer = getattr(system, "drawer", None)  # conversations draw with other programs
    draws = f"; {drawer.draw.programs()} of them draw" if drawer else ""
    reporter.print(f"{counter}{draws}")
    reporter.print(f"{minutes:.1f} min; report: {folder / 'report.html'}")
    reporter.close()
    return rows


def rows_of(
    system, trained, seed: int, finished: Path, folder: Path, raw_test, may_train: bool
) -> list[dict]:
    """Evaluates one seed, or reads what an earlier run left in `finished`.

    Args:
      trained: of the system. folder: masks are kept there.

    Returns:
      Rows of results.json.
    """

    def make() -> list[dict]:
        about = (system, trained, seed, raw_test)
        results, masks = METHODS[system.config.method].evaluate(*about)
        if system.config.evaluation.gaps:
            more, gaps = gap_rows(*about)
            results, masks = results + more, masks | gaps
        if processes.is_first():
            workdir.keep_masks(folder / "masks" / f"seed_{seed}.npz", masks)
        return results

    return workdir.kept(finished, make, anew=not may_train)


def machine() -> dict[str, str]:
    """Where numbers were made."""
    device = jax.devices()[0]
    packages = ("jax", "flax", "optax", "orbax-checkpoint", "numpy")
    of_processes = f", {jax.process_count()} processes" if processes.several() else ""
    return {
        "processor": f"{platform.machine()}, {os.cpu_count()} cores",
        "device": f"{jax.device_count()} x {device.device_kind} ({device.platform}){of_processes}",
        "python": sys.version.split()[0],
    } | {name: importlib.metadata.version(name) for name in packages}
