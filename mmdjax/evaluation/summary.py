"""From the results of a run's systems to its report."""

from __future__ import annotations

import importlib
import json

from mmdjax import config as configs
from mmdjax import workdir
from mmdjax.evaluation import findings, report, tables
from mmdjax.evaluation.conditions import conditions_of
from mmdjax.evaluation.evaluate import with_regrets
from mmdjax.runtime.machine import machine
from mmdjax.training.train import Trained, train


def report_run(
    config, systems, dataset, places, costs, extra, minutes: float, reporter
) -> list[dict]:
    """Write the report of a run's systems; return all rows of results.json.

    Args:
      config: `mmdjax.config.Config`. systems: `mmdjax.run.System`s, all of them evaluated.
      costs: of `costs.draw_costs`. extra: of `sections_of`. minutes: that the command took.
    """
    rows, history = [], {}
    for system in systems:
        for seed in config.seeds:
            kept = json.loads(system.results(seed).read_text())
            # Systems that are the same but for their name share a file.
            rows += [r | {"system": system.name} for r in kept["rows"]]
            for phase, curves in kept["history"].items():
                # Phases of one title that differ are told apart by the system.
                title = f"{phase}, seed {seed}"
                if history.setdefault(title, curves) != curves:
                    history[f"{phase} ({system.name}), seed {seed}"] = curves
    for seed in config.seeds:
        for condition in conditions_of(dataset, config.evaluation, seed):
            if condition.protocol != "fixed":
                rate = condition.missing_rate(dataset.splits["test"].valid)
                rows.append(_protocol_row(condition, seed, rate))
    rows = with_regrets(rows, dataset.task)
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
        extra=extra,
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


def shown(system) -> tables.Shown:
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


def sections_of(config, systems, dataset, places, known, reporter):
    """Return what methods add to the report: sections, and figures by name.

    Every process of a run calls it: parameters are restored, and pictures drawn, by all.

    Args:
      known: phases fitted so far.
    """
    sections, figures, seed = [], {}, config.seeds[0]

    def trained(system) -> Trained:
        place = places.phase(system.resolved.config, seed)
        return train(system.method, seed, place, False, known)

    for module in dict.fromkeys(s.method.pages for s in systems if s.method.pages):
        system = next(s for s in systems if s.method.pages == module)
        make = importlib.import_module(module).sections
        own, drawn = make(system.method, trained(system).params, seed)
        sections, figures = [*sections, *own], figures | drawn
    if config.comparison.pictures:
        from mmdjax.evaluation import effectiveness  # openTSNE takes seconds to import

        total = effectiveness.steps(config.comparison, dataset.modalities)
        embedded = {}
        for system in (s for s in systems if s.method.draws):
            # Systems that share their draws share their picture.
            path = places.folder / "pictures" / f"{places.completion(system.method)}.json"

            def make(system=system):
                params = trained(system).params
                with reporter.phase(f"t-SNE pictures of {system.name}", total) as progress:
                    return effectiveness.embedded(
                        system.method, params, seed, config.comparison, progress.advance
                    )

            embedded[system.name] = workdir.kept(path, make)
        own, drawn = effectiveness.sections(embedded, dataset.modalities)
        sections, figures = [*sections, *own], figures | drawn
    return sections, figures
