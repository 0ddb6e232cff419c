"""Results as charts: by system, by pattern, by missing rate, and against the time they take."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from mmdjax.evaluation.figures import INK, QUIET, RULE, blank, brief, colours, name_points, tidy
from mmdjax.evaluation.rank_chart import rank_chart
from mmdjax.evaluation.tables import AVERAGE, OPTIMUM, Key, Results, Stat, cell
from mmdjax.tasks import metric

# Groups of bars (four modalities have 16), bars of a group, and letters of the groups' names that
# are legible side by side.
MOST_GROUPS, MOST_BARS, LONGEST_NAME = 16, 8, 16
MOST_BANDS = 9  # more bands around lines, or whiskers on one line, are one grey
PUBLISHED = "#c44e00"
# Few evaluations dark, many light, but none so light that white paper swallows it.
NFE_HUES = ListedColormap(colormaps["viridis"](np.linspace(0, 0.88, 256)))


def charts(
    results: Results, costs: Mapping[str, Mapping], printed: Mapping[str, str]
) -> dict[str, tuple[Figure, str]]:
    """Return name -> (figure, caption), for what there is to show.

    Args:
      costs: see `report.Context`. printed: system -> 'ACC2 / F1 / ACC7' as published.
    """
    name, figures = results.task.headline, {}
    averages = results.by_system("fixed", AVERAGE, name)
    if len(averages) > 1:
        caption = "Dots: seeds; diamonds: their mean"
        caption += "; orange bars: published." if printed else "."
        figures["systems"] = (by_system(results, printed), caption)
        timed = [s for s in averages if costs.get(s)]
        if len(timed) > 1:
            caption = (
                "What quality costs: means over patterns, whiskers one deviation over seeds. A "
                "prediction averages its draws and takes as many times as long."
            )
            figures["quality_and_time"] = (quality_against_time(results, timed, costs), caption)
        if (ranks := rank_chart(results, "fixed")) is not None:
            figures["ranks"] = ranks
    if name in results.measured("fixed"):
        caption = (
            "By observed modalities. Whiskers, where systems are few: one standard deviation over "
            "seeds."
        )
        figures["per_pattern"] = (by_pattern(results, name), caption)
    for other in (name, "mae", "rmse_mean"):
        seen = {k.condition for k in results.values if (k.protocol, k.metric) == ("random", other)}
        if len(seen & set(results.rates)) > 1:
            caption = (
                "By missing rate, means over seeds; bands, where lines are few, are one standard "
                "deviation. Dashed: nothing is drawn."
            )
            figures[f"rate_{other}"] = (against_rate(results, other), caption)
    return figures


def _panels(results: Results, systems: Iterable[str]) -> list[tuple[str, str]]:
    """Return (protocol, metric) of the headline and of energy distance, if a system has it."""
    panels = [("fixed", results.task.headline), ("imputation", "energy_distance")]
    return [p for p in panels if set(systems) & set(results.by_system(p[0], AVERAGE, p[1]))]


def _printed(name: str, stats: Iterable[Stat]) -> tuple[np.ndarray, np.ndarray]:
    """Return means and deviations, 0 where undefined, in the unit in which they are printed."""
    means, deviations = np.array([s[:2] for s in stats]).T * metric(name).scale
    return means, np.nan_to_num(deviations)


def by_system(results: Results, printed: Mapping[str, str]) -> Figure:
    """Draw headline metric and energy distance of each system: seeds, mean, published number."""
    panels = _panels(results, [s.name for s in results.systems])
    measured = set().union(*(results.by_system(p, AVERAGE, m) for p, m in panels))
    names = [s.name for s in results.systems if s.name in measured][::-1]
    hues, figure = colours(results.systems), blank(9.6, 1.2 + 0.3 * len(names))
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for ax, (protocol, name) in zip(axes, panels, strict=True):
        entry = metric(name)
        tidy(ax, entry.title(arrow=True), grid="x")
        for y, system in enumerate(names):
            seeds = results.values.get(Key(system, protocol, AVERAGE, name), {})
            values = [entry.scale * value for value in seeds.values()]
            ax.plot(values, [y] * len(values), "o", color=hues[system], alpha=0.35, ms=4)
            if values:
                ax.plot(np.mean(values), y, "D", color=hues[system], ms=6)
            if protocol == "fixed" and system in printed:
                theirs = float(printed[system].split(" / ")[0])
                ax.plot(theirs, y, "|", color=PUBLISHED, ms=12, mew=2)
        ax.set_yticks(range(len(names)), [brief(n, 40) for n in names])
        ax.set_ylim(-0.6, len(names) - 0.4)
        ax.xaxis.set_major_locator(MaxNLocator(5))
    return figure


def by_pattern(results: Results, name: str) -> Figure:
    """Draw grouped bars over the availability patterns, and the optimum as a black line over each.

    Beyond `MOST_GROUPS` groups or `MOST_BARS` bars, or with long names, each is a line of dots.
    """
    lines, entry, hues = results.by_condition("fixed", name), metric(name), colours(results.systems)
    conditions = [c for c in results.conditions("fixed") if any(c in of for of in lines.values())]
    bars = [s for s in lines if s.method != OPTIMUM]
    many = len(conditions) > MOST_GROUPS or len(bars) > MOST_BARS
    if many or max(map(len, conditions), default=0) > LONGEST_NAME:
        return _dots_by_pattern(results, name, conditions)
    figure = blank(max(9.6, 1.4 * len(conditions)), 4.4)
    ax = figure.subplots()
    tidy(ax, entry.title())
    width = 0.82 / max(len(bars), 1)
    # The average stands a little apart from the patterns it summarises.
    centre = {c: i + 0.25 * (c == AVERAGE) for i, c in enumerate(conditions)}
    lowest = math.inf
    for system, stats in lines.items():
        middle, hue = np.array([centre[c] for c in stats]), hues[system.name]
        y, std = _printed(name, stats.values())
        lowest = min(lowest, *y)
        if system.method == OPTIMUM:
            ends = (middle - 0.44, middle + 0.44)
            ax.hlines(y, *ends, hue, lw=1.8, capstyle="projecting", label=brief(system.name))
            continue
        x = middle + (bars.index(system) - (len(bars) - 1) / 2) * width
        ax.bar(x, y, 0.9 * width, color=hue, label=brief(system.name))
        ax.errorbar(x, y, std, fmt="none", ecolor=INK, elinewidth=0.9, capsize=0)
    if entry.unit == "%":  # a common start shows the differences
        ax.set_ylim(bottom=max(0, min(50, 10 * math.floor(lowest / 10))))
    ax.set_xticks([*centre.values()], [brief(c) for c in conditions], color=INK, fontsize=10)
    ax.set_xlim(-0.5, max(centre.values(), default=0) + 0.5)
    ax.tick_params(axis="x", pad=6)
    entries = list(zip(*ax.get_legend_handles_labels(), strict=True))
    entries.sort(key=lambda pair: pair[0] in ax.collections)  # the bars first, then the line
    _legend(figure, entries)
    return figure


def _dots_by_pattern(results: Results, name: str, conditions: Sequence[str]) -> Figure:
    """Draw patterns from top to bottom: a dot for each system, its deviation over seeds as a line
    through it, and the optimum as a black stroke."""
    lines, hues = results.by_condition("fixed", name), colours(results.systems)
    figure = blank(9.6, 1.9 + 0.27 * len(conditions))
    ax = figure.subplots()
    tidy(ax, metric(name).title(), grid="x")
    line, places, size = 0.0, {}, 0
    for condition in conditions:
        modalities = 0 if condition == AVERAGE else condition.count("+") + 1
        line += 1.5 if places and modalities != size else 1.0  # their numbers stand apart
        places[condition], size = line, modalities
    ax.hlines([*places.values()], 0, 1, RULE, lw=0.8, transform=ax.get_yaxis_transform(), zorder=0)
    for index, (system, stats) in reversed([*enumerate(lines.items())]):  # the first lies on top
        x, std = _printed(name, stats.values())
        style = {"color": hues[system.name], "label": brief(system.name), "ls": "none"}
        if system.method == OPTIMUM:
            style |= {"marker": "|", "ms": 13, "mew": 2}
        else:
            style |= {"marker": "o", "ms": 4.5 if index else 6}
        std = std if len(lines) <= MOST_BANDS else None
        ax.errorbar(x, [places[c] for c in stats], xerr=std, elinewidth=0.9, **style)
    ax.set_yticks([*places.values()], [brief(c, 64) for c in conditions], color=INK, fontsize=9)
    ax.set_ylim(line + 0.8, 0.2)
    _legend(figure, list(zip(*ax.get_legend_handles_labels(), strict=True))[::-1])
    return figure


def _legend(figure: Figure, entries) -> None:
    """Write a legend below a figure; entries: (handle, name) each, the first one bold."""
    columns = 5 if max((len(e[1]) for e in entries), default=0) < 20 else 3
    style = {"loc": "outside lower center", "ncols": columns, "frameon": False, "fontsize": 9}
    legend = figure.legend([e[0] for e in entries], [e[1] for e in entries], **style)
    for text in legend.get_texts()[:1]:
        text.set_fontweight("bold")


def against_rate(results: Results, name: str) -> Figure:
    """Draw each system over the realised missing rate, with a band of one deviation over seeds."""
    entry, hues, ends = metric(name), colours(results.systems), {}
    lines = {
        system: {c: s for c, s in stats.items() if c in results.rates}
        for system, stats in results.by_condition("random", name).items()
    }
    figure = blank(9.6, max(4.8, 0.3 * len(lines) + 1.2))
    ax = figure.subplots()
    tidy(ax, entry.title())
    for system, stats in reversed(lines.items()):  # the first one lies on top
        x, (y, std) = [results.rates[c] for c in stats], _printed(name, stats.values())
        strong, dash = system == results.systems[0], "-" if system.draws else (0, (4, 2))
        style = {"lw": 2.6 if strong else 1.6, "ls": dash, "marker": "o", "ms": 4.5}
        ax.plot(x, y, color=hues[system.name], **style)
        if len(lines) <= MOST_BANDS:
            alpha = 0.16 if strong else 0.09
            ax.fill_between(x, y - std, y + std, color=hues[system.name], alpha=alpha, lw=0)
        ends[system.name] = (x[-1], y[-1])
    ax.set_xlabel("realised missing rate", fontsize=9.5, color=QUIET)
    ax.set_xticks([*results.rates.values()], [f"{x:.3g}" for x in results.rates.values()])
    low, high = ax.get_ylim()
    gap = 0.28 / figure.get_figheight() * (high - low)
    places = _spread([y for _, y in ends.values()], gap)
    for (system, (x, y)), place in zip(ends.items(), places, strict=True):
        # The name stands right of the line's end; a hair line leads to it where it had to move.
        ax.annotate(
            brief(system, 34), (x, y), (1.04, place), fontsize=9.5, color=INK,
            textcoords=ax.get_yaxis_transform(), va="center", annotation_clip=False,
            fontweight="bold" if system == results.systems[0].name else "normal",
            arrowprops={"arrowstyle": "-", "relpos": (0, 0.5), "color": hues[system]},
        )  # fmt: skip
    return figure


def _spread(positions: Sequence[float], gap: float) -> list[float]:
    """Return the positions moved as little as possible until neighbours are `gap` apart."""
    order = np.argsort(positions)
    placed = np.asarray(positions, np.float64)[order]
    for _ in range(2000):
        close = np.maximum(gap - np.diff(placed), 0) / 2
        placed[:-1] -= close
        placed[1:] += close
    return placed[np.argsort(order)].tolist()


def quality_against_time(
    results: Results, timed: Sequence[str], costs: Mapping[str, Mapping]
) -> Figure:
    """Draw the headline metric over the seconds of predictions, and energy distance over those of
    draws; colours are NFE."""
    panels = _panels(results, timed)
    evaluations = [costs[name]["nfe"] for name in timed]
    norm = LogNorm(0.8 * min(evaluations), 1.25 * max(evaluations))
    figure, named = blank(9.6, 4.1 * len(panels)), []
    axes = figure.subplots(len(panels), squeeze=False)[:, 0]
    for ax, (protocol, name) in zip(axes, panels, strict=True):
        entry, stats, points = metric(name), results.by_system(protocol, AVERAGE, name), {}
        tidy(ax, entry.title(arrow=True))
        for system in (s for s in results.systems if s.name in timed and s.name in stats):
            mean, std, _ = stats[system.name]
            seconds = costs[system.name]["seconds"] * (system.k if protocol == "fixed" else 1)
            point = seconds, entry.scale * mean, entry.scale * float(np.nan_to_num(std))
            hue = NFE_HUES(norm(costs[system.name]["nfe"]))
            ax.errorbar(*point, fmt="o", color=hue, elinewidth=0.9, ms=8, mec="white", mew=0.8)
            points.setdefault(point, []).append(system.name)  # two may differ in K alone
        if protocol == "fixed":
            _without_drawing(ax, results)
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_locator(NullLocator())
        ax.margins(0.16, 0.14)  # room for names
        drawn = "predictions' draws, K each" if protocol == "fixed" else "draws"
        ax.set_xlabel(f"seconds for 1000 {drawn}", fontsize=9.5)
        named.append((ax, points))
    bar = figure.colorbar(ScalarMappable(norm, NFE_HUES), ax=axes, shrink=0.5, aspect=30, pad=0.01)
    bar.outline.set_visible(False)
    ticks: list[int] = []
    for count in sorted(set(evaluations)):
        ticks += [count] if not ticks or count > 1.15 * ticks[-1] else []
    bar.set_ticks(ticks, labels=[f"{n:g}" for n in ticks])
    bar.set_ticks([], minor=True)
    bar.set_label("NFE", fontsize=9.5)
    for ax, points in named:
        places, whiskers = [p[:2] for p in points], [p[2] for p in points]
        name_points(ax, places, list(points.values()), whiskers)
    return figure


def _without_drawing(ax, results: Results) -> None:
    """Draw a line at the best system that fills instead of drawing."""
    entry = metric(results.task.headline)
    stats = results.by_system("fixed", AVERAGE, entry.name)
    names = [s.name for s in results.systems if s.name in stats and not (s.draws or s.yardstick)]
    if names:
        best = (max if entry.higher else min)(names, key=lambda name: stats[name][0])
        ax.axhline(entry.scale * stats[best][0], color=QUIET, lw=1, ls=(0, (4, 2)), zorder=1)
        text = f"dashed: best without drawing, {brief(best)}, {cell(entry.name, stats[best])}"
        ax.set_title(text, loc="right", fontsize=9, color=QUIET)
