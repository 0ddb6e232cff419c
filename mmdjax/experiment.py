"""A run: data, training and evaluation of every seed, and the report in the work directory."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import platform
import sys
import time
from pathlib import Path

import jax
import numpy as np

from mmdjax import config as configs
from mmdjax.compilation import Counter, cancel_waiting
from mmdjax.data import pipeline
from mmdjax.errors import UserError
from mmdjax.evaluation import report, tables
from mmdjax.evaluation.conversations import evaluate as evaluate_conversations
from mmdjax.evaluation.evaluate import evaluate
from mmdjax.evaluation.graph_report import sections
from mmdjax.files import load_arrays, save_arrays, write_json
from mmdjax.methods.draw import Drawer, make_drawer, prepare
from mmdjax.methods.graph_stages import GraphStages
from mmdjax.methods.graph_system import GraphSystem
from mmdjax.methods.imder import Imder
from mmdjax.methods.stages import Stages
from mmdjax.methods.system import build
from mmdjax.methods.two_stage import TwoStage
from mmdjax.training.progress import Reporter

METHODS = {"two_stage": Stages, "imder": Imder, "gsdnet": GraphStages}


def run(config: configs.Config, workdir: Path, may_train: bool = True) -> list[dict]:
    """Trains and evaluates every seed; goes on where an earlier run in `workdir` stopped.

    Leaves config.json, checkpoints/, masks/, tensorboard/, results.json, report.md, report.html
    and figures/ in `workdir`.

    Returns:
      The rows of results.json.

    Raises:
      UserError: bad data, another run in `workdir`, a loss that is not finite.
    """
    if not may_train and not (workdir / "config.json").exists():
        raise UserError(
            f"workdir {str(workdir)!r} holds no run to evaluate; run --mode=train first"
        )
    counter = Counter()
    drawer = None
    try:
        if config.method != "gsdnet":
            # Its imports replace Python's own import, which breaks tracing in another thread.
            importlib.import_module("mmdjax.data.builder")
            # Draws compile while data load: their shapes are known from the config alone.
            drawer = prepared_drawer(config)
        return _run(config, workdir, may_train, drawer, counter)
    finally:
        cancel_waiting()


def prepared_drawer(config: configs.Config) -> Drawer:
    """Being compiled in the background, if the run draws."""
    modules = build(config, pipeline.modality_names(config.data))
    drawer = make_drawer(modules, config.diffusion)
    if config.method == "imder" or "draws" in config.fills:
        prepare(drawer, modules, config)
    return drawer


def _run(config, workdir: Path, may_train: bool, drawer, counter: Counter) -> list[dict]:
    conversations = config.method == "gsdnet"
    raw = (pipeline.load_conversations if conversations else pipeline.load)(config.data)
    fingerprint = pipeline.fingerprint_of(raw) if conversations else None
    fingerprint = fingerprint or pipeline.fingerprint(config.data)
    written = configs.to_dict(config) | {"data_fingerprint": fingerprint}
    check_workdir(workdir, written)
    write_json(workdir / "config.json", written)
    reporter = Reporter(workdir / "tensorboard")
    sizes = ", ".join(f"{name} {len(batch)}" for name, batch in raw.items())
    reporter.print(f"{config.title}: {sizes} utterances; {', '.join(raw['train'].modalities)}")
    started = time.monotonic()
    if conversations:
        system = GraphSystem(config, raw, reporter)
    else:
        system = TwoStage(config, pipeline.standardise(raw), reporter, drawer)
    stages = METHODS[config.method](system)
    if may_train and not (workdir / "checkpoints").exists():
        stages.prepare()
    rows, history, first = [], {}, None
    for seed in config.seeds:
        place = (workdir / "checkpoints" / f"seed_{seed}").joinpath
        trained = stages.train(seed, place, may_train)
        finished, first = place("rows.json"), first or trained
        rows += rows_of(system, trained, seed, finished, workdir, raw["test"], may_train)
        history |= {f"{phase}, seed {seed}": h for phase, h in trained.history.items()}
    write_json(workdir / "results.json", rows)
    extra = sections(system, rows, first, config.seeds[0]) if conversations else ((), {})
    minutes = (time.monotonic() - started) / 60
    report.write_report(
        workdir,
        rows,
        modalities=system.modalities,
        title=config.title,
        config=configs.to_dict(config),
        machine=machine(),
        history=history,
        notes=[f"The command that wrote this report took {minutes:.1f} minutes."],
        extra=extra,
    )
    header, body = tables.main_table(rows, system.modalities)
    reporter.print(tables.rich_table("Average over the availability patterns", header, body))
    draws = f"; {drawer.draw.programs()} of them draw" if drawer else ""
    reporter.print(f"{counter}{draws}")
    reporter.print(f"{minutes:.1f} min; report: {workdir / 'report.html'}")
    reporter.close()
    return rows


def rows_of(
    system, trained, seed: int, finished: Path, workdir: Path, raw_test, may_train: bool
) -> list[dict]:
    """Evaluates one seed, or reads what an earlier run left in `finished`.

    Args:
      trained: of the system. workdir: masks are kept there.

    Returns:
      Rows of results.json.
    """
    if not (may_train and finished.exists()):
        of = evaluate_conversations if isinstance(system, GraphSystem) else evaluate
        results, masks = of(system, trained, seed, raw_test)
        keep_masks(workdir / "masks" / f"seed_{seed}.npz", masks)
        write_json(finished, results)
    return json.loads(finished.read_text())


def check_workdir(workdir: Path, written: dict) -> None:
    """Creates the work directory; refuses one that holds a run of another configuration.

    Args:
      written: what config.json is to hold.

    Raises:
      UserError: it cannot be made or written, or holds something else.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"workdir {str(workdir)!r} cannot be made: {error.strerror}") from None
    if not os.access(workdir, os.W_OK):
        raise UserError(f"workdir {str(workdir)!r} is not writable; give another folder")
    path = workdir / "config.json"
    if not path.exists():
        return
    try:
        different = sorted(
            differences(json.loads(path.read_text()), json.loads(json.dumps(written)))
        )
    except (ValueError, AttributeError):
        raise UserError(f"{str(path)!r} is not the config of a run; give another folder") from None
    if different:
        raise UserError(
            f"workdir {str(workdir)!r} holds a run with another config ({'; '.join(different)}); "
            "give another folder, or the same config"
        )


def differences(old: dict, new: dict, where: str = "") -> list[str]:
    """'a.b: 1 there, 2 given' for each value that differs between two trees."""
    result = []
    for key in old.keys() | new.keys():
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            result += differences(a, b, f"{where}{key}.")
        elif a != b:
            result.append(f"{where}{key}: {a!r} there, {b!r} given")
    return result


def keep_masks(path: Path, masks: dict) -> None:
    """Saves the masks once; raises `UserError` where a later run draws other ones."""
    if path.exists():
        old = load_arrays(path)
        if any(not np.array_equal(old.get(rate), mask) for rate, mask in masks.items()):
            raise UserError(f"{path} holds other masks than this version draws; use a new workdir")
        return
    save_arrays(path, **masks)


def machine() -> dict[str, str]:
    """Where numbers were made."""
    device = jax.devices()[0]
    packages = ("jax", "flax", "optax", "orbax-checkpoint", "numpy")
    return {
        "processor": f"{platform.machine()}, {os.cpu_count()} cores",
        "device": f"{jax.device_count()} x {device.device_kind} ({device.platform})",
        "python": sys.version.split()[0],
    } | {name: importlib.metadata.version(name) for name in packages}
