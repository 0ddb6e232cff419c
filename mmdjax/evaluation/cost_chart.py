"""What quality costs: results over the seconds that their draws take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from mmdjax.evaluation.figures import NARROW, QUIET, WIDE, blank, brief, mark, name_points, tidy
from mmdjax.evaluation.tables import AVERAGE, Results, cell
from mmdjax.tasks import metric

# Few evaluations dark, many light, but none so light that white paper swallows it.
NFE_HUES = ListedColormap(colormaps["viridis"](np.linspace(0, 0.88, 256)))


def panels_of(results: Results, systems: Iterable[str]) -> list[tuple[str, str]]:
    """Return (protocol, metric) of the headline and of energy distance, if a system has it."""
    panels = [("fixed", results.task.headline), ("imputation", "energy_distance")]
    return [p for p in panels if set(systems) & set(results.by_system(p[0], AVERAGE, p[1]))]


def quality_against_time(
    results: Results, timed: Sequence[str], costs: Mapping[str, Mapping], narrow: bool = False
) -> Figure:
    """Draw the headline metric over the seconds of predictions, and energy distance over those of
    draws; colours are NFE."""
    panels = panels_of(results, timed)
    evaluations = [costs[name]["nfe"] for name in timed]
    norm = LogNorm(0.8 * min(evaluations), 1.25 * max(evaluations))
    figure, named = blank(NARROW if narrow else WIDE, 4.1 * len(panels)), []
    axes = figure.subplots(len(panels), squeeze=False)[:, 0]
    for ax, (protocol, name) in zip(axes, panels, strict=True):
        entry, stats, points = metric(name), results.by_system(protocol, AVERAGE, name), {}
        tidy(ax, entry.title(arrow=True))
        for system in (s for s in results.systems if s.name in timed and s.name in stats):
            mean, std, _ = stats[system.name]
            seconds = costs[system.name]["seconds"] * (system.k if protocol == "fixed" else 1)
            point = seconds, entry.scale * mean, entry.scale * float(np.nan_to_num(std))
            hue = NFE_HUES(norm(costs[system.name]["nfe"]))
            style = {"elinewidth": 0.9, "ms": 8, "mec": "white", "mew": 0.8}
            dot, _, whiskers = ax.errorbar(*point, fmt="o", color=hue, **style)
            told = f"{cell(name, stats[system.name])}, {seconds:.3g} s"
            for artist in (dot, *whiskers):
                mark(artist, system.name, *[told] * (artist is dot))
            points.setdefault(point, []).append(system.name)  # two may differ in K alone
        if protocol == "fixed":
            _without_drawing(ax, results, narrow)
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_locator(NullLocator())
        ax.margins(0.16, 0.14)  # room for names
        drawn = "predictions' draws, K each" if protocol == "fixed" else "draws"
        ax.set_xlabel(f"seconds for 1000 {drawn}", fontsize=9.5)
        named.append((ax, points))
    place = {"shrink": 0.5, "aspect": 30, "pad": 0.01}
    place |= {"location": "bottom", "pad": 0.02} if narrow else {}
    bar = figure.colorbar(ScalarMappable(norm, NFE_HUES), ax=axes, **place)
    bar.outline.set_visible(False)
    ticks: list[int] = []
    for count in sorted(set(evaluations)):
        ticks += [count] if not ticks or count > 1.15 * ticks[-1] else []
    bar.set_ticks(ticks, labels=[f"{n:g}" for n in ticks])
    bar.set_ticks([], minor=True)
    bar.set_label("NFE", fontsize=9.5)
    for ax, points in named:
        places, whiskers = [p[:2] for p in points], [p[2] for p in points]
        name_points(ax, places, list(points.values()), whiskers, 18 if narrow else 34)
    return figure


def _without_drawing(ax: Axes, results: Results, narrow: bool) -> None:
    """Draw a line at the best system that fills instead of drawing."""
    entry = metric(results.task.headline)
    stats = results.by_system("fixed", AVERAGE, entry.name)
    names = [s.name for s in results.systems if s.name in stats and not (s.draws or s.yardstick)]
    if names:
        best = (max if entry.higher else min)(names, key=lambda name: stats[name][0])
        ax.axhline(entry.scale * stats[best][0], color=QUIET, lw=1, ls=(0, (4, 2)), zorder=1)
        text = f"dashed: best without drawing, {brief(best)}, {cell(entry.name, stats[best])}"
        if not narrow:
            ax.set_title(text, loc="right", fontsize=9, color=QUIET)
