"""The report of a run: its tables and figures in order, and how to read them."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from mmdjax.config import Comparison
from mmdjax.evaluation import (
    beside,
    card,
    charts,
    fans,
    figures,
    findings,
    headline,
    pages,
    words,
)
from mmdjax.evaluation.pages import Block
from mmdjax.evaluation.tables import Results, condition_table
from mmdjax.tasks import metric

PLACES = {"random": ", by missing rate", "gaps": ", by kind of gap"}
READING = (  # (what a run must hold, the explanation that its reader then needs)
    ("", "Bold marks the best mean of a column; ± tells whether that is a difference. Yardsticks "
     "(grey) are never bold. A dash: not measured, or not defined."),
    ("several", "Differences are taken from the first system; in brackets their 95 % interval over "
     "seeds and utterances (of utterances alone where there is one seed), of other metrics ± the "
     "deviation over seeds. " + findings.RULE),
    ("acc2_nonzero", "ACC2 and F1 non-zero leave out utterances with label 0 and compare > 0 with "
     "> 0; with zero, ≥ 0 is compared with ≥ 0. F1 is weighted by class."),
    ("acc7", "ACC7 clips prediction and label to ±3 and rounds half to even."),
    ("uar", "F1 is weighted by class; F1 macro is the plain mean over classes. UAR is the mean "
     "recall over classes."),
    ("ap", "F1, average precision (AP) and accuracy are means over labels."),
    ("ccc", "CCC is Lin's concordance correlation."),
    ("draws", "K: missing data are drawn K times and the K predictions are averaged."),
    ("zero mean", "zero and mean fill missing data with a constant; trained: the classifier was "
     "trained with such fills, otherwise on complete data."),
    ("bayes", "The data are synthetic, so the Bayes optimum is exact."),
    ("bayes acc2_nonzero", "The Bayes optimum is the posterior median of the label, which is "
     "optimal for ACC2 and MAE, not for ACC7 or correlation."),
    ("random", "A missing rate hides modalities utterance by utterance and always keeps one, so "
     "the realised rate may be lower than the nominal one."),
    ("gaps", "Gaps: mcar drops single frames, burst runs of them, block one run of each modality; "
     "correlated, imbalanced and label_dependent hide whole modalities (data/missing/gaps.py)."),
    ("imputation", "RMSE compares values; a conditional mean, "
     "which has no spread, has the best RMSE."),
    ("energy_distance", "The energy distance compares the distribution of one draw (or fill) an "
     "utterance with that of the true values. Only systems that complete the same space, such as "
     "the latents of the same encoders, can be compared by it."),
    ("with_draws", "Draws that have the law of the truth have a spread of 1, cover 90 %, and "
     "correlate with each other as they do with the truth. Coverage is that of intervals from the "
     "ranks of K draws, number by number; where K is small, draws without any spread still cover "
     "some tens of percent. The sliced Wasserstein distance of two samples is above 0 even where "
     "they have one law."),
    ("timed", "Seconds for 1000 draws of one modality given all others: the median, systems taking "
     "turns."),
)  # fmt: skip


USE = "Fill the gaps of a file, predict from it, and export the model as one file:"


class Context(NamedTuple):
    """The content of a report beside its numbers.

    Attributes:
      title: its heading.
      config: plain values, printed as they are; machine and notes as well.
      comparison: `mmdjax.config.Comparison`; which published tables are shown.
      costs: system -> {'seconds' for 1000 draws, 'quartiles', 'nfe', 'parameters', 'batch'}, of
        those that were timed.
      history: 'phase, seed N' -> {"epoch", "train", "valid": lists, "best": epoch kept, optional}.
      sections: a method's own (title, blocks) each.
      figures: name -> (figure, caption) of `sections`.
      about: the data and the date, in one line.
      fan: of `fans.strand`, of the first system that draws; {} where none was kept.
      commands: of the shell, that use the run's model; '' where it has none.
    """

    title: str
    config: Mapping
    comparison: Comparison
    costs: Mapping[str, Mapping]
    history: Mapping
    machine: Mapping[str, str]
    notes: Sequence[str]
    sections: Sequence[tuple[str, Sequence[Block]]] = ()
    figures: Mapping[str, tuple[Figure, str]] = {}
    about: str = ""
    fan: Mapping[str, np.ndarray] = {}
    commands: str = ""


def write_report(folder: Path, results: Results, context: Context) -> Path:
    """Write `report.md`, `report.html` (returned), `card.png`, `figures/` and `tables/`."""
    context = context._replace(costs={name: cost for name, cost in context.costs.items() if cost})
    names, dataset = beside.chosen(context.config, context.comparison, results.modalities)
    if not any(m in beside.METRICS for m in results.measured("fixed") | results.measured("random")):
        names = ()
    printed = beside.averages(results, names, dataset)
    shown = charts.charts(results, context.costs, printed) | dict(context.figures)
    if context.history:
        caption = "Loss, one line a seed. The circle is the epoch that was kept."
        shown["loss"] = (functools.partial(figures.loss_curves, context.history), caption)
    if context.fan:
        picture = functools.partial(fans.picture, context.fan, results.modalities)
        shown["fan"] = (picture, fans.CAPTION)
    context = context._replace(
        figures=shown,
        sections=[*context.sections, *beside.section(results, context.config, names, dataset)],
    )
    pictures = {name: figure for name, (figure, _) in shown.items()}
    card.write(folder / "card.png", context.title, context.about, results, context)
    blocks, order = _blocks(results, context, printed), [s.name for s in results.systems]
    return pages.write_pages(folder, context.title, blocks, pictures, order)


def _blocks(results: Results, context: Context, printed: Mapping[str, str]) -> list[Block]:
    """Return the report from top to bottom; blocks without content are left out."""

    def figure(name: str) -> Block:
        return "figure", name, *context.figures.get(name, (None, ""))[1:]

    def by_condition(protocol: str, metrics: Iterable[str]) -> list[Block]:
        measured = [metric(m) for m in metrics if m in results.measured(protocol)]
        kind = "heat" if protocol == "fixed" else "table"
        return [
            (kind, entry.title(arrow=True) + PLACES.get(protocol, ""),
             *condition_table(results, protocol, entry.name))
            for entry in measured
        ]  # fmt: skip

    name, costs = results.task.headline, context.costs
    regrets = [m for m in results.task.main if m.startswith("regret_")]
    second = [m for m in results.task.main if m == "mae" and m != name]
    main = findings.main_table(results, costs, printed)
    further = [m for m in results.task.metric_names if m not in results.task.main]
    several = len(results.by_condition("fixed", name)) > 1
    shaded = "Shade: the stronger, the closer to the best system of the pattern." if several else ""
    regret = words.REGRET if results.measured("fixed") & set(regrets) else ""
    text = json.dumps(context.config, indent=2, default=str, ensure_ascii=False)
    sections = [
        ("Results", [("table", f"Mean over {findings.counted(results)}", *main), figure("systems"),
                     figure("ranks"),
                     ("table", f"Differences to {results.systems[0].name}",
                      *findings.difference_table(results)),
                     ("table", f"{metric(name).title(arrow=True)} by where the epoch is picked",
                      *findings.picked_table(results)),
                     figure("quality_and_time"),
                     ("table", "Further metrics, mean over patterns",
                      *findings.averages(results, further))]),
        ("Draws", [figure("fan"), figure("calibration")]),
        ("By pattern", [figure("per_pattern"), ("note", shaded), *by_condition("fixed", [name]),
                        ("note", regret), *by_condition("fixed", regrets),
                        ("words", "Patterns in words", words.patterns_in_words(results, "fixed"))]),
        ("By missing rate", [figure(f"rate_{name}"), *by_condition("random", [name]),
                             *(b for m in second for b in (figure(f"rate_{m}"),
                                                           *by_condition("random", [m])))]),
        ("Gaps", by_condition("gaps", (name, *second))),
        ("Imputation", [("table", "The law of draws, mean over what is drawn from what",
                         *findings.law_table(results)),
                        figure("rate_rmse_mean"), *by_condition("random", ["rmse_mean", "rmse"]),
                        *by_condition("imputation", sorted(results.measured("imputation")
                                                         - set(findings.LAW))),
                        ("words", "Patterns in words",
                         words.patterns_in_words(results, "imputation"))]),
        *context.sections,
        ("How to read this", [("list", _reading(results, costs))]),
        ("Training and cost", [figure("loss"),
                               ("table", "Time spent, shared phases once",
                                *findings.time_table(results)),
                               ("table", "Cost of each system",
                                *findings.cost_table(results, costs))]),
        ("Notes", [("list", _notes(results, context))]),
        ("Use this model", [("commands", USE, context.commands)]),
        ("Machine and configuration", [("pairs", context.machine),
                                       ("details", "Configuration", text)]),
    ]  # fmt: skip
    lead = " ".join(filter(None, [findings.lead(results), words.above_optimum(results)]))
    top = [("about", context.about), ("tiles", headline.tiles(results, costs)), ("lead", lead)]
    top = [block for block in top if block[-1]]
    return [("h1", context.title), *top, *pages.sections(sections)]


def _reading(results: Results, costs: Mapping) -> list[str]:
    """Return the explanations that the report's tables need."""
    seeds = sorted({s[2] for s in results.summary.values()}) or [0]
    n = "–".join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))
    held = {name for key in results.values for name in (key.metric, key.protocol)}
    held |= {s.method.removesuffix("_trained") for s in results.systems}
    held |= {"draws"} if any(s.draws for s in results.systems) else set()
    held |= {"several"} if len(results.systems) > 1 else set()
    held |= {"timed"} if costs else set()
    return [
        f"A number is the mean ± the sample standard deviation over seeds, n = {n}; one seed has "
        "no ±. An average over patterns is taken inside each seed first.",
        f"A pattern names what is observed: {letters_of(results.modalities)}.",
        *(text for needed, text in READING if held.issuperset(needed.split())),
    ]


def _notes(results: Results, context: Context) -> list[str]:
    notes = list(context.notes)
    if spent := findings.minutes(results):
        notes.append(f"Training and evaluation took {spent:.1f} minutes, shared phases once.")
    if context.config.get("optimise") is False:
        notes.append("Only draws were optimised programs (optimise=False): training took longer.")
    return notes


def letters_of(modalities: Sequence[str]) -> str:
    """Return what the letters of patterns stand for: first letters, where these are unique."""
    if len({name[:1] for name in modalities}) == len(modalities):
        return ", ".join(f"{name[:1]} = {name}" for name in modalities)
    return ", ".join(modalities)
