"""The report of a comparison: our table beside the published one, and which differences count."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from mmdjax.evaluation import comparison_tables as made_of
from mmdjax.evaluation import figures, pages, tables
from mmdjax.evaluation.comparison_tables import HEADLINE, PUBLISHED_LETTERS, paired, verdict
from mmdjax.evaluation.report import letters_of

READING = (
    "A number is the mean ± the sample standard deviation over seeds; the average over patterns is "
    "taken inside each seed first. ACC2 and F1 are non-zero: the label 0 is dropped.",
    "Differences are taken seed by seed from the first system; ± is their deviation. A difference "
    "counts where its mean exceeds the larger deviation over seeds of the two systems.",
    "Energy distance: of one draw (or fill) an utterance to the true latents, mean over patterns; "
    "comparable between systems with the same encoders only. Two-stage systems share them; a "
    "one-stage system has its own.",
    "Seconds for 1000 draws of one modality given all others: median, systems taking turns.",
    "Published numbers were measured on other features and other hardware: they say what the paper "
    "found, not what this machine should.",
)


def chart(rows, systems, costs, printed) -> Figure:
    """ACC2 and energy distance of each system: every seed, their mean, the published number."""
    names = [s.name for s in systems][::-1]
    figure = figures.blank(9.6, 1.2 + 0.34 * len(names))
    panels = [("fixed", HEADLINE, 100), ("imputation", "energy_distance", 1)]
    for ax, (protocol, metric, scale) in zip(
        figure.subplots(1, 2, sharey=True), panels, strict=True
    ):
        figures.tidy(ax, tables.metric_label(metric, arrow=True))
        fixed = {"protocol": protocol, "condition": "average", "metric": metric}
        for y, name in enumerate(names):
            values = [scale * r["value"] for r in tables.select(rows, method=name, **fixed)]
            hue = figures.VALID if name in costs else figures.TRAIN
            ax.plot(values, [y] * len(values), "o", color=hue, alpha=0.35, ms=4)
            if values:
                ax.plot(np.mean(values), y, "D", color=hue, ms=6)
        if protocol == "fixed":
            for y, name in enumerate(names):
                theirs = next(s.published for s in systems if s.name == name)
                if row := printed.get((theirs, "fixed", "average")):
                    ax.plot(100 * row[metric], y, "|", color="#c44e00", ms=12, mew=2)
        ax.set_yticks(range(len(names)), names)
        ax.grid(axis="x", color=figures.RULE)
        ax.grid(visible=False, axis="y")
    return figure


def lead(rows, systems, costs) -> str:
    """What the numbers say about drawing against filling, in words that they support."""
    summary = tables.summarise(rows)
    stat = {s.name: summary.get((s.name, "fixed", "average", HEADLINE)) for s in systems}
    known = [name for name, found in stat.items() if found]
    if not known:
        return "Nothing was measured on the patterns."
    text = {name: f"{name} ({tables.cell(HEADLINE, stat[name])})" for name in known}
    drawing, filling = ([n for n in known if (n in costs) == side] for side in (True, False))
    if not (drawing and filling):
        best = max(known, key=lambda name: stat[name][0])
        return (
            f"Highest mean ACC2 (%) over the patterns: {text[best]}. Whether it differs from the "
            "others, the table of differences says."
        )
    best = max(filling, key=lambda name: stat[name][0])
    said: dict[str, list[str]] = {}
    for name in drawing:
        difference = paired(rows, name, best, "fixed", HEADLINE)
        found = verdict(difference, max(stat[name][1], stat[best][1]))
        said.setdefault(found, []).append(text[name])
    words = {
        "yes, higher": "Systems that draw and are ahead of it",
        "no": "Not distinguishable from it",
        "yes, lower": "Systems that draw and are behind it",
        "one seed cannot tell": "One seed cannot tell about",
    }
    parts = [f"{words[found]}: {', '.join(said[found])}." for found in words if found in said]
    start = f"Mean ACC2 (%) over the patterns: without drawing at best {text[best]}."
    return " ".join((start, *parts))


def write_report(
    workdir: Path,
    config,
    draws: Mapping[str, int],
    rows: Sequence[dict],
    costs: Mapping[str, dict],
    modalities: Sequence[str],
    machine: Mapping[str, str],
    notes: Sequence[str],
    pictures: Mapping[str, tuple[Figure, str]],
) -> Path:
    """Writes `report.md`, `report.html` (returned) and `figures/*.png`.

    Args:
      config: `mmdjax.config.Config` with its comparison.
      draws: system -> K. rows: of results.json.
      costs: system -> see `mmdjax.comparison.draw_costs`.
      pictures: name -> figure and caption.
    """
    comparison, printed = config.comparison, made_of.printed_rows(config.comparison)
    systems = comparison.systems
    shown = made_of.shown_rows(rows, systems, draws, comparison.complete)
    ours = tables.patterns(shown)[: None if comparison.complete else -1]
    letters = dict(zip((name[:1] for name in modalities), PUBLISHED_LETTERS, strict=False))
    theirs = ["+".join(letters.get(part, part) for part in p.split("+")) for p in ours]
    conditions = {
        "fixed": dict(zip(ours, theirs, strict=True)) | {"average": "average"},
        "random": {rate: rate for rate in (*tables.rates(shown), "average")},
    }

    def by_condition(protocol: str) -> list[pages.Block]:
        table = made_of.condition_table(shown, systems, protocol, conditions[protocol], printed)
        return [("table", "ACC2 (%)", *table)]

    counted = "all patterns" if comparison.complete else "the incomplete patterns"
    settings = config.evaluation.draws
    minutes = made_of.seconds_in_all(rows) / 60
    notes = [
        f"Seeds: {', '.join(map(str, config.seeds))}. Draws averaged: {settings}, where a name "
        "does not say otherwise.",
        f"Patterns name what is observed: {letters_of(modalities)}.",
        f"Training and evaluation took {minutes:.1f} minutes, shared phases counted once.",
        *notes,
    ]
    if not config.optimise:
        notes.append("Only draws were optimised programs (optimise=False): training took longer.")
    text = json.dumps(dataclasses.asdict(config), indent=2, default=str, ensure_ascii=False)
    main = made_of.main_table(shown, systems, costs, printed)
    differences = made_of.difference_table(shown, systems)
    dots = f"Dots: seeds; diamonds: their mean; orange bars: published, CMU-{comparison.dataset}."
    beside = [
        ("table", f"{t}, CMU-{comparison.dataset}: ACC2 / F1 / ACC7 (%)", *table)
        for t in comparison.tables
        if (table := made_of.published_table(comparison, t))
    ]
    spent = made_of.cost_table(rows, systems)
    sections = [
        (
            "Results",
            [
                ("table", f"Mean over {counted}", *main),
                ("figure", "comparison", dots),
                ("table", f"Difference to {systems[0].name}", *differences),
            ],
        ),
        ("By pattern", by_condition("fixed")),
        ("By missing rate", by_condition("random")),
        ("Pictures", [("figure", name, caption) for name, (_, caption) in pictures.items()]),
        ("Published", beside),
        ("How to read this", [("list", READING)]),
        ("Cost", [("table", "Seconds; a shared phase stands with each system", *spent)]),
        ("Notes", [("list", notes)]),
        ("Machine and configuration", [("pairs", machine), ("details", "Configuration", text)]),
    ]
    blocks = [("h1", config.title), ("lead", lead(shown, systems, costs))]
    made = {"comparison": chart(shown, systems, costs, printed)}
    made |= {name: figure for name, (figure, _) in pictures.items()}
    return pages.write_pages(workdir, config.title, [*blocks, *pages.sections(sections)], made)
