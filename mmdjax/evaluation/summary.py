"""Collects the results of a run's systems and writes its report."""

from __future__ import annotations

import dataclasses
import datetime
import importlib
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mmdjax import config as configs
from mmdjax import workdir
from mmdjax.data.dataset import Dataset
from mmdjax.data.stored import is_stored
from mmdjax.evaluation import availability, differences, findings, headline, report, tables
from mmdjax.evaluation.availability import SPLITS
from mmdjax.evaluation.conditions import conditions_of, left_out
from mmdjax.evaluation.evaluate import with_regrets
from mmdjax.evaluation.pages import Block
from mmdjax.runtime.files import load_arrays, load_json, save_arrays
from mmdjax.runtime.machine import machine
from mmdjax.runtime.progress import Reporter
from mmdjax.tasks import metric
from mmdjax.training.train import Known, Trained, train

# What methods add to a report: sections, and figures with their captions by name.
Additions = tuple[list[tuple[str, list[Block]]], dict[str, tuple[Figure, str]]]

# How a user gets a sound file of a system's results in place of a damaged one.
EVALUATE = "run --mode=evaluate to write it again"


def report_run(
    config: configs.Config,
    systems: Sequence[Any],
    twins: Sequence[Any],
    dataset: Dataset,
    places: workdir.Places,
    costs: Mapping[str, dict],
    extra: Additions,
    minutes: float,
    reporter: Reporter,
) -> list[dict]:
    """Write the report of a run's systems; return all rows of results.json.

    Args:
      config: `mmdjax.config.Config`. systems: `mmdjax.run.System`s, all of them evaluated.
      twins: those of them that are trained, with the epoch picked on test; () for none.
      costs: of `costs.draw_costs`. extra: of `sections_of`. minutes: that the command took.
    """
    rows, history = [], {}
    for system in (*systems, *twins):
        for seed in config.seeds:
            saved = load_json(system.results(seed), EVALUATE)
            # Systems that are the same but for their name share a file.
            rows += [r | {"system": system.name} for r in saved["rows"]]
            for phase, curves in saved["history"].items() if system not in twins else ():
                # Phases of one title that differ are told apart by the system.
                title = f"{phase}, seed {seed}"
                if history.setdefault(title, curves) != curves:
                    history[f"{phase} ({system.name}), seed {seed}"] = curves
    for seed in config.seeds:
        for condition in conditions_of(dataset, config.evaluation, seed):
            if condition.protocol != "fixed":
                rate = condition.missing_rate(dataset.splits["test"].valid)
                place = {"protocol": condition.protocol, "condition": condition.name, "seed": seed}
                name = {"system": "protocol", "method": "protocol"}
                rows.append(name | place | {"metric": "missing_rate", "value": rate})
    rows = with_regrets(rows, dataset.task)
    shown = [shown_of(system) for system in systems]
    results = tables.results(
        rows, shown, dataset.task, dataset.modalities, config.comparison.complete
    )
    predictions = _kept(results, systems, dataset, config, places)
    batch, task = dataset.splits["test"], dataset.task
    whole = batch.talk.conversation if batch.talk is not None else None
    protocols = {p: c for p, c in results.counted.items() if p != "imputation"}
    pseudo = differences.pseudo(task, np.asarray(batch.label), whole, predictions, protocols)
    yardsticks = [s.name for s in results.systems if s.yardstick]
    tested = differences.tested(pseudo, yardsticks)
    ranks = differences.ranked(pseudo, metric(task.headline).higher, yardsticks)
    best = next(iter(headline.ranking(results)), None)
    led = {"fixed": {best: pseudo["fixed"][best]} | pseudo["fixed"]} if best else {}
    rivals = {s: t for (_, s), t in differences.tested(led, yardsticks).items()}
    picked = tables.results(
        rows, list(map(shown_of, twins)), dataset.task, dataset.modalities, results.complete
    )
    results = dataclasses.replace(results, tested=tested, rivals=rivals, ranks=ranks, picked=picked)
    fans = (load_arrays(s.fan, EVALUATE) for s in systems if s.fan.exists())
    context = report.Context(
        title=config.title,
        config=configs.to_dict(config),
        comparison=config.comparison,
        costs=costs,
        history=history,
        machine=machine(),
        notes=[
            f"The command that wrote this report took {minutes:.1f} minutes.",
            *filter(None, [left_out(config.evaluation, len(dataset.modalities))]),
        ],
        sections=[*availability.sections(dataset), *extra[0]],
        figures=extra[1],
        about=about(config, systems, dataset),
        fan=next(filter(None, fans), {}),
        commands=commands(places.folder) if (places.folder / "model").exists() else "",
    )
    report.write_report(places.folder, results, context)
    header, body = findings.averages(results)
    reporter.print(tables.rich_table("Average over the availability patterns", header, body))
    return rows


def about(config: configs.Config, systems: Sequence[Any], dataset: Dataset) -> str:
    """Return the data of a run and the day of its evaluation, in one line.

    A report that is written again tells the same day.
    """
    sizes = (f"{len(batch)} {SPLITS[name]}" for name, batch in dataset.splits.items())
    source = Path(config.data.path).name or config.data.name.replace("_", " ")
    written = (s.results(seed).stat().st_mtime for s in systems for seed in config.seeds)
    day = datetime.datetime.fromtimestamp(max(written), datetime.UTC)
    parts = [f"{source} data", " / ".join(sizes) + " utterances", ", ".join(dataset.modalities)]
    seeds = len(config.seeds)
    parts += [f"{seeds} seed{'s' * (seeds > 1)}", f"{day:%-d %B %Y}"]
    return " · ".join(parts)


def commands(folder: Path) -> str:
    """Return commands that use the model of a run."""
    start = f"mmdjax --mode={{}} --workdir={shlex.quote(str(folder))}"
    return "\n".join((
        f"{start.format('impute')} --input=gaps.npz --output=filled.npz",
        f"{start.format('predict')} --input=gaps.npz --output=predictions.csv",
        f"{start.format('export')} --output=model.mmdjax",
        f"{start.format('serve')} --examples=gaps.npz",
    ))  # fmt: skip


def _kept(
    results: tables.Results,
    systems: Sequence[Any],
    dataset: Dataset,
    config: configs.Config,
    places: workdir.Places,
) -> dict:
    """Return system -> seed -> its predictions; keep all of them in one file."""
    batch, predictions = dataset.splits["test"], {}
    joined = {"label": np.asarray(batch.label)}
    if not is_stored(batch):  # names of others lie on the disk, in the same order
        joined["id"] = np.asarray(batch.id).astype(str)
    if batch.talk is not None:
        joined["conversation"] = np.unique(batch.talk.conversation, return_inverse=True)[1]
    for shown in results.systems:
        system = next(s for s in systems if s.name == shown.name)
        paths = {seed: system.predictions(seed) for seed in config.seeds}
        of_seeds = {
            seed: load_arrays(path, EVALUATE) for seed, path in paths.items() if path.exists()
        }
        predictions[shown.name] = of_seeds
        for seed, arrays in of_seeds.items():
            joined |= {f"{shown.name}/seed {seed}/{name}": a for name, a in arrays.items()}
    save_arrays(places.folder / "predictions.npz", **joined)
    return predictions


def shown_of(system: Any) -> tables.Shown:
    """Return the properties of a system that tables and figures show."""
    method, resolved = type(system.method), system.resolved
    return tables.Shown(
        name=system.name,
        method=method.name,
        published=resolved.published,
        draws=method.draws,
        k=resolved.config.evaluation.draws,
        yardstick=method.yardstick,
    )


def sections_of(
    config: configs.Config,
    systems: Sequence[Any],
    dataset: Dataset,
    places: workdir.Places,
    known: Known,
    reporter: Reporter,
) -> Additions:
    """Return what methods add to the report: sections, and figures by name.

    Every process of a run calls it: parameters are restored, and pictures drawn, by all.

    Args:
      known: phases fitted so far.
    """
    sections, figures, seed = [], {}, config.seeds[0]

    def trained(system: Any) -> Trained:
        place = places.phase(system.resolved.config, seed)
        return train(system.method, seed, place, False, known)

    for module in dict.fromkeys(s.method.pages for s in systems if s.method.pages):
        system = next(s for s in systems if s.method.pages == module)
        pages = importlib.import_module(module)
        added, drawn = pages.sections(system.method, trained(system).params, seed)
        sections, figures = [*sections, *added], figures | drawn
    if config.comparison.pictures:
        from mmdjax.evaluation import effectiveness  # openTSNE takes seconds to import

        total = effectiveness.steps(config.comparison, dataset.modalities)
        embedded = {}
        for system in (s for s in systems if s.method.draws):
            # Systems that share their draws share their picture.
            path = places.folder / "pictures" / f"{places.completion(system.method)}.json"

            def make(system: Any = system) -> dict[str, dict]:
                params = trained(system).params
                with reporter.phase(f"t-SNE pictures of {system.name}", total) as progress:
                    return effectiveness.embedded(
                        system.method, params, seed, config.comparison, progress.advance
                    )

            embedded[system.name] = workdir.kept(path, make)
        added, drawn = effectiveness.sections(embedded, dataset.modalities)
        sections, figures = [*sections, *added], figures | drawn
    return sections, figures
