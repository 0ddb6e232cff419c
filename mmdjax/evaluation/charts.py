"""Results as charts: by system, by pattern, by missing rate, and against the time they take."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mmdjax.evaluation.cost_chart import panels_of, quality_against_time
from mmdjax.evaluation.figures import INK, NARROW, QUIET, WIDE, blank, brief, colours, mark, tidy
from mmdjax.evaluation.law_chart import calibration
from mmdjax.evaluation.pattern_chart import MOST_BANDS, by_pattern
from mmdjax.evaluation.rank_chart import rank_chart
from mmdjax.evaluation.tables import AVERAGE, Key, Results, cell, in_print
from mmdjax.tasks import metric

PUBLISHED = "#c44e00"
# (narrow) -> the figure, for wide paper or for a phone; and what stands below it.
Chart = tuple[Callable[..., Figure], str]


def charts(
    results: Results, costs: Mapping[str, Mapping], printed: Mapping[str, str]
) -> dict[str, Chart]:
    """Return name -> chart, for what there is to show.

    Args:
      costs: see `report.Context`. printed: system -> 'ACC2 / F1 / ACC7' as published.
    """
    name, figures = results.task.headline, {}
    draw = functools.partial
    averages = results.by_system("fixed", AVERAGE, name)
    if len(averages) > 1:
        caption = "Dots: seeds; diamonds: their mean"
        caption += "; orange bars: published." if printed else "."
        figures["systems"] = (draw(by_system, results, printed), caption)
        timed = [s for s in averages if costs.get(s)]
        if len(timed) > 1:
            caption = (
                "What quality costs: means over patterns, whiskers one deviation over seeds. A "
                "prediction averages its draws and takes as many times as long."
            )
            quality = draw(quality_against_time, results, timed, costs)
            figures["quality_and_time"] = (quality, caption)
        if (ranks := rank_chart(results, "fixed")) is not None:
            figures["ranks"] = ranks
    if name in results.measured("fixed"):
        caption = (
            "By observed modalities. Whiskers, where systems are few: one standard deviation over "
            "seeds."
        )
        figures["per_pattern"] = (draw(by_pattern, results, name), caption)
    for other in (name, "mae", "rmse_mean"):
        seen = {k.condition for k in results.values if (k.protocol, k.metric) == ("random", other)}
        if len(seen & set(results.rates)) > 1:
            caption = (
                "By missing rate, means over seeds; bands, where lines are few, are one standard "
                "deviation. Dashed: nothing is drawn."
            )
            figures[f"rate_{other}"] = (draw(against_rate, results, other), caption)
    if (law := calibration(results)) is not None:
        figures["calibration"] = law
    return figures


def by_system(results: Results, printed: Mapping[str, str], narrow: bool = False) -> Figure:
    """Draw headline metric and energy distance of each system: seeds, mean, published number."""
    panels = panels_of(results, [s.name for s in results.systems])
    measured = set().union(*(results.by_system(p, AVERAGE, m) for p, m in panels))
    names = [s.name for s in results.systems if s.name in measured][::-1]
    hues, height = colours(results.systems), 1.2 + 0.3 * len(names)
    figure = blank(NARROW, height * len(panels)) if narrow else blank(WIDE, height)
    shape = (len(panels), 1) if narrow else (1, len(panels))
    axes = figure.subplots(*shape, sharey=True, squeeze=False).ravel()
    for ax, (protocol, name) in zip(axes, panels, strict=True):
        entry = metric(name)
        tidy(ax, entry.title(arrow=True), grid="x")
        for y, system in enumerate(names):
            seeds = results.values.get(Key(system, protocol, AVERAGE, name), {})
            values = [entry.scale * value for value in seeds.values()]
            (dots,) = ax.plot(values, [y] * len(values), "o", color=hues[system], alpha=0.35, ms=4)
            texts = (f"seed {s}: {cell(name, (v, 0.0, 1))}" for s, v in seeds.items())
            mark(dots, system, *texts)
            if values:
                (mean,) = ax.plot(np.mean(values), y, "D", color=hues[system], ms=6)
                stat = results.summary[Key(system, protocol, AVERAGE, name)]
                mark(mean, system, f"{entry.label}: {cell(name, stat)}")
            if protocol == "fixed" and system in printed:
                theirs = float(printed[system].split(" / ")[0])
                (bar,) = ax.plot(theirs, y, "|", color=PUBLISHED, ms=12, mew=2)
                mark(bar, system, f"published: {theirs:g}")
        ax.set_yticks(range(len(names)), [brief(n, 22 if narrow else 40) for n in names])
        ax.set_ylim(-0.6, len(names) - 0.4)
        ax.xaxis.set_major_locator(MaxNLocator(5))
    for ax in axes:  # shared names are set anew with each panel
        for text, system in zip(ax.get_yticklabels(), names, strict=False):
            mark(text, system)
    return figure


def against_rate(results: Results, name: str, narrow: bool = False) -> Figure:
    """Draw each system over the realised missing rate, with a band of one deviation over seeds."""
    entry, hues, ends = metric(name), colours(results.systems), {}
    lines = {
        system: {c: s for c, s in stats.items() if c in results.rates}
        for system, stats in results.by_condition("random", name).items()
    }
    wide = WIDE, max(4.8, 0.3 * len(lines) + 1.2)
    figure = blank(NARROW, 3.6) if narrow else blank(*wide)
    ax = figure.subplots()
    tidy(ax, entry.title())
    for system, stats in reversed(lines.items()):  # the first one lies on top
        x, (y, std) = [results.rates[c] for c in stats], in_print(name, stats.values())
        strong, dash = system == results.systems[0], "-" if system.draws else (0, (4, 2))
        style = {"lw": 2.6 if strong else 1.6, "ls": dash, "marker": "o", "ms": 4.5}
        (line,) = ax.plot(x, y, color=hues[system.name], **style)
        mark(line, system.name, *(f"rate {c}: {cell(name, stat)}" for c, stat in stats.items()))
        if len(lines) <= MOST_BANDS:
            alpha = 0.16 if strong else 0.09
            band = ax.fill_between(x, y - std, y + std, color=hues[system.name], alpha=alpha, lw=0)
            mark(band, system.name)
        ends[system.name] = (x[-1], y[-1])
    ax.set_xlabel("realised missing rate", fontsize=9.5, color=QUIET)
    ax.set_xticks([*results.rates.values()], [f"{x:.3g}" for x in results.rates.values()])
    if narrow:  # names stand below it
        return figure
    low, high = ax.get_ylim()
    gap = 0.28 / figure.get_figheight() * (high - low)
    places = _spread([y for _, y in ends.values()], gap)
    for (system, (x, y)), place in zip(ends.items(), places, strict=True):
        # The name stands right of the line's end; a hair line leads to it where it had to move.
        text = ax.annotate(
            brief(system, 34), (x, y), (1.04, place), fontsize=9.5, color=INK,
            textcoords=ax.get_yaxis_transform(), va="center", annotation_clip=False,
            fontweight="bold" if system == results.systems[0].name else "normal",
            arrowprops={"arrowstyle": "-", "relpos": (0, 0.5), "color": hues[system]},
        )  # fmt: skip
        mark(text, system)
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
