"""The headline by availability pattern, as bars or, where they are many, as lines of dots."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure

from mmdjax.evaluation.figures import INK, NARROW, RULE, WIDE, blank, brief, colours, mark, tidy
from mmdjax.evaluation.tables import AVERAGE, OPTIMUM, Results, cell, in_print
from mmdjax.tasks import metric

# Groups of bars (four modalities have 16), bars of a group, and letters of the groups' names that
# are legible side by side.
MOST_GROUPS, MOST_BARS, LONGEST_NAME = 16, 8, 16
MOST_BANDS = 9  # more whiskers on one line are one grey


def by_pattern(results: Results, name: str, narrow: bool = False) -> Figure:
    """Draw grouped bars over the availability patterns, and the optimum as a black line over each.

    Beyond `MOST_GROUPS` groups or `MOST_BARS` bars, with long names, or where the page is narrow,
    each is a line of dots.
    """
    lines, entry, hues = results.by_condition("fixed", name), metric(name), colours(results.systems)
    conditions = [c for c in results.conditions("fixed") if any(c in of for of in lines.values())]
    bars = [s for s in lines if s.method != OPTIMUM]
    many = len(conditions) > MOST_GROUPS or len(bars) > MOST_BARS
    if many or narrow or max(map(len, conditions), default=0) > LONGEST_NAME:
        return _dots_by_pattern(results, name, conditions, narrow)
    figure = blank(max(WIDE, 1.4 * len(conditions)), 4.4)
    ax = figure.subplots()
    tidy(ax, entry.title())
    width = 0.82 / max(len(bars), 1)
    # The average stands a little apart from the patterns it summarises.
    centre = {c: i + 0.25 * (c == AVERAGE) for i, c in enumerate(conditions)}
    lowest = math.inf
    for system, stats in lines.items():
        middle, hue = np.array([centre[c] for c in stats]), hues[system.name]
        y, std = in_print(name, stats.values())
        lowest = min(lowest, *y)
        if system.method == OPTIMUM:
            ends = (middle - 0.44, middle + 0.44)
            lines_of = ax.hlines(
                y, *ends, hue, lw=1.8, capstyle="projecting", label=brief(system.name)
            )
            mark(lines_of, system.name, *(f"{c}: {cell(name, s)}" for c, s in stats.items()))
            continue
        x = middle + (bars.index(system) - (len(bars) - 1) / 2) * width
        columns = ax.bar(x, y, 0.9 * width, color=hue, label=brief(system.name))
        for column, (c, stat) in zip(columns, stats.items(), strict=True):
            mark(column, system.name, f"{c}: {cell(name, stat)}")
        whiskers = ax.errorbar(x, y, std, fmt="none", ecolor=INK, elinewidth=0.9, capsize=0)
        mark(whiskers[2][0], system.name)
    if entry.unit == "%":  # a common start shows the differences
        ax.set_ylim(bottom=max(0, min(50, 10 * math.floor(lowest / 10))))
    ax.set_xticks([*centre.values()], [brief(c) for c in conditions], color=INK, fontsize=10)
    ax.set_xlim(-0.5, max(centre.values(), default=0) + 0.5)
    ax.tick_params(axis="x", pad=6)
    entries = list(zip(*ax.get_legend_handles_labels(), strict=True))
    entries.sort(key=lambda pair: pair[0] in ax.collections)  # the bars first, then the line
    _legend(figure, entries)
    return figure


def _dots_by_pattern(
    results: Results, name: str, conditions: Sequence[str], narrow: bool
) -> Figure:
    """Draw patterns from top to bottom: a dot for each system, its deviation over seeds as a line
    through it, and the optimum as a black stroke."""
    lines, hues = results.by_condition("fixed", name), colours(results.systems)
    figure = blank(NARROW if narrow else WIDE, 1.9 + 0.27 * len(conditions))
    ax = figure.subplots()
    tidy(ax, metric(name).title(), grid="x")
    place, places, size = 0.0, {}, 0
    for condition in conditions:
        modalities = 0 if condition == AVERAGE else condition.count("+") + 1
        place += 1.5 if places and modalities != size else 1.0  # their numbers stand apart
        places[condition], size = place, modalities
    ax.hlines([*places.values()], 0, 1, RULE, lw=0.8, transform=ax.get_yaxis_transform(), zorder=0)
    for index, (system, stats) in reversed([*enumerate(lines.items())]):  # the first lies on top
        x, std = in_print(name, stats.values())
        style = {"color": hues[system.name], "label": brief(system.name), "ls": "none"}
        if system.method == OPTIMUM:
            style |= {"marker": "|", "ms": 13, "mew": 2}
        else:
            style |= {"marker": "o", "ms": 4.5 if index else 6}
        std = std if len(lines) <= MOST_BANDS else None
        line, _, whiskers = ax.errorbar(
            x, [places[c] for c in stats], xerr=std, elinewidth=0.9, **style
        )
        mark(line, system.name, *(f"{c}: {cell(name, stat)}" for c, stat in stats.items()))
        for whisker in whiskers:
            mark(whisker, system.name)
    heads = [brief(c, 20 if narrow else 64) for c in conditions]
    ax.set_yticks([*places.values()], heads, color=INK, fontsize=9)
    ax.set_ylim(place + 0.8, 0.2)
    _legend(figure, list(zip(*ax.get_legend_handles_labels(), strict=True))[::-1])
    return figure


def _legend(figure: Figure, entries: Sequence[tuple[Artist, str]]) -> None:
    """Write a legend below a figure; entries: (handle, name) each, the first one bold."""
    columns = 5 if max((len(e[1]) for e in entries), default=0) < 20 else 3
    style = {"loc": "outside lower center", "ncols": columns, "frameon": False, "fontsize": 9}
    legend = figure.legend([e[0] for e in entries], [e[1] for e in entries], **style)
    for text in legend.get_texts()[:1]:
        text.set_fontweight("bold")
