"""A comparison as charts: what quality costs, and what is left of it as more is missing."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from mmdjax.evaluation import figures, tables
from mmdjax.evaluation.comparison_tables import HEADLINE, YARDSTICKS, shown_rows
from mmdjax.evaluation.point_names import name_points

HUES = ("#0b5cad", "#c44e00", "#009e73", "#882e72", "#6bb3ea", "#f0a83c", "#d48fc0", *figures.SPARE)
# Few evaluations dark, many light, but none so light that white paper swallows it.
NFE_HUES = ListedColormap(colormaps["viridis"](np.linspace(0, 0.88, 256)))


def charts(rows, config, draws: Mapping[str, int], costs) -> dict[str, tuple[Figure, str]]:
    """Name -> figure and caption, for what was measured.

    Args:
      rows: of results.json. config: `mmdjax.config.Config` with its comparison.
      draws: system -> K. costs: system -> see `mmdjax.comparison.draw_costs`.
    """
    systems, made = config.comparison.systems, {}
    shown = shown_rows(rows, systems, draws, config.comparison.complete)
    summary = tables.summarise(shown)
    if any((name, "fixed", "average", HEADLINE) in summary for name in costs):
        caption = (
            "What quality costs: means over patterns, whiskers one deviation over seeds; up and "
            "left is better above, down and left below. An energy distance compares systems with "
            "the same encoders only. A prediction averages K draws and takes as many times as long."
        )
        figure = quality_against_time(summary, systems, draws, costs)
        made["quality_and_time"] = (figure, caption)
    realised = [r for r in rows if r["system"] == systems[0].name and r["metric"] == "missing_rate"]
    if len(tables.rates(shown)) > 1:
        names = [s.name for s in systems]
        hues = {name: HUES[i % len(HUES)] for i, name in enumerate(names)}
        hues |= dict(zip(YARDSTICKS.values(), ("#8f8f8f", "#000000"), strict=True))
        figure = figures.metric_against_rate(
            [*shown, *realised], HEADLINE, hues, [n for n in hues if n not in costs]
        )
        caption = (
            "By missing rate, means over seeds; bands, where lines are few, are one deviation. "
            "Dashed: nothing is drawn."
        )
        made["missing_rate"] = (figure, caption)
    return made


def quality_against_time(summary, systems, draws: Mapping[str, int], costs) -> Figure:
    """ACC2 over the seconds of predictions, energy distance over those of draws; NFE by colour."""
    figure = figures.blank(9.6, 7.8)
    axes = figure.subplots(2)
    drawing = [s for s in systems if s.name in costs]
    evaluations = [costs[s.name]["nfe"] for s in drawing]
    norm = LogNorm(0.8 * min(evaluations), 1.25 * max(evaluations))
    panels = [("fixed", HEADLINE, 100), ("imputation", "energy_distance", 1)]
    named = []
    for ax, (protocol, metric, scale) in zip(axes, panels, strict=True):
        figures.tidy(ax, tables.metric_label(metric, arrow=True))
        points = {}
        for system in drawing:
            mean, std, _ = summary.get((system.name, protocol, "average", metric), (math.nan,) * 3)
            if not math.isfinite(mean):
                continue
            averaged = protocol == "fixed" and system.method == "diffusion"
            seconds = (draws[system.name] if averaged else 1) * costs[system.name]["seconds"]
            point = seconds, scale * mean, scale * float(np.nan_to_num(std))
            hue = NFE_HUES(norm(costs[system.name]["nfe"]))
            ax.errorbar(*point, fmt="o", color=hue, elinewidth=0.9, ms=8, mec="white", mew=0.8)
            points.setdefault(point, []).append(system.name)  # two may differ in K alone
        if protocol == "fixed":
            _without_drawing(ax, summary, [s.name for s in systems if s.name not in costs])
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_locator(NullLocator())
        ax.margins(0.16, 0.14)  # room for names
        named.append((ax, points))
    axes[0].set_xlabel("seconds for 1000 predictions' draws, K each", fontsize=9.5)
    axes[1].set_xlabel("seconds for 1000 draws", fontsize=9.5)
    bar = figure.colorbar(ScalarMappable(norm, NFE_HUES), ax=axes, shrink=0.5, aspect=30, pad=0.01)
    bar.outline.set_visible(False)
    ticks: list[int] = []
    for count in sorted(set(evaluations)):
        ticks += [count] if not ticks or count > 1.15 * ticks[-1] else []
    bar.set_ticks(ticks, labels=[str(n) for n in ticks])
    bar.set_ticks([], minor=True)
    bar.set_label("NFE", fontsize=9.5)
    for ax, points in named:
        places, whiskers = [p[:2] for p in points], [p[2] for p in points]
        name_points(ax, places, list(points.values()), whiskers)
    return figure


def _without_drawing(ax, summary, names) -> None:
    """A line for the best system that fills instead of drawing."""
    stat = {n: summary.get((n, "fixed", "average", HEADLINE)) for n in names}
    stat = {n: found for n, found in stat.items() if found}
    if stat:
        best = max(stat, key=lambda n: stat[n][0])
        ax.axhline(100 * stat[best][0], color=figures.QUIET, lw=1, ls=(0, (4, 2)), zorder=1)
        told = f"dashed: best without drawing, {best}, {tables.cell(HEADLINE, stat[best])}"
        ax.set_title(told.replace("$", r"\$"), loc="right", fontsize=9, color=figures.QUIET)
