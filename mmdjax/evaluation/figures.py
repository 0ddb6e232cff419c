"""Figures of a run. Every function returns a `Figure` of its own; pyplot is not involved."""

from __future__ import annotations

import io
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mmdjax.evaluation import tables
from mmdjax.files import write_bytes

INK, QUIET, RULE = "#1c1c1c", "#6b6b6b", "#e4e4e4"
TRAIN, VALID = "#8a8a8a", "#0b5cad"
# Hues that stay apart for colour-blind readers; a family has one hue, its trained member dark.
COLOURS = {"diffusion_k8": "#0b5cad", "diffusion_k1": "#6bb3ea", "linear_probe": "#8f8f8f"}
COLOURS |= {"diffusion_complete_k8": "#009e73", "zero_trained": "#c44e00", "zero": "#f0a83c"}
COLOURS |= {"mean_trained": "#882e72", "mean": "#d48fc0", "bayes": "#000000"}
# Of conversations: variants, whatever is measured of them; none stands beside all of the above.
VARIANTS = {"diffusion": "#0b5cad", "diffusion_aligned": "#6bb3ea", "diffusion_blind": "#44aa99"}
VARIANTS |= {"diffusion_dense": "#c44e00", "diffusion_dense_structure": "#f0a83c"}
VARIANTS |= {"diffusion_structure": "#882e72", "bayes_alone": "#8f8f8f"}
SPARE = ("#44aa99", "#999933", "#6699cc", "#aa4466", "#777711", "#5b4fa0")


def colour(method: str) -> str:
    """One colour a method, whatever else is drawn; by a hash where it is not in the list."""
    if (variant := re.sub(r"_k\d+$", "", method)) in VARIANTS and method not in COLOURS:
        return VARIANTS[variant]
    return COLOURS.get(method, SPARE[zlib.crc32(method.encode()) % len(SPARE)])


def _name(text: str) -> str:
    """An id as matplotlib may show it: no mathematics between dollars, no endless line."""
    text = " ".join(text.split()).replace("$", r"\$")
    text = text if len(text) <= 28 else text[:27] + "…"
    return f" {text}" if text.startswith("_") else text  # legends skip a leading underscore


def blank(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def tidy(ax: Axes, title: str) -> None:
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.spines["bottom"].set_color("#b5b5b5")
    ax.tick_params(colors=QUIET, labelsize=9, length=0, which="both")
    ax.grid(axis="y", color=RULE, linewidth=0.8)
    ax.set_axisbelow(True)
    ax.set_title(title, loc="left", fontsize=11, color=INK, fontweight="bold", pad=8)


def loss_curves(history: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """One small panel a phase: training and validation loss, and the epoch that was kept."""
    columns = min(3, max(1, len(history)))
    lines = max(1, math.ceil(len(history) / columns))
    figure = blank(max(4.0 * columns, 5.0), 2.9 * lines)
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for ax in grid[len(history) :]:
        ax.set_visible(False)
    for ax, (phase, curves) in zip(grid, history.items(), strict=False):
        tidy(ax, _name(phase))
        drawn = []
        for part, label, hue in (("train", "training", TRAIN), ("valid", "validation", VALID)):
            pairs = list(zip(curves.get("epoch", ()), curves.get(part, ()), strict=False))
            if pairs:
                x, y = np.array(pairs, np.float64).T
                ax.plot(x, y, color=hue, lw=1.8, label=label, marker="o" if len(x) == 1 else None)
                drawn.append((x, y))
        values = np.array([v for _, y in drawn for v in y if math.isfinite(v)])
        if len(values) and values.min() > 0:
            ax.set_yscale("log")
            if values.max() < 8 * values.min():  # inside a decade a log axis labels no ticks
                ax.yaxis.set_major_locator(MaxNLocator(4))
                ax.yaxis.set_major_formatter("{x:g}")
                ax.yaxis.set_minor_formatter("")
        best = curves.get("best")
        if best is not None and drawn:
            ax.axvline(best, color=QUIET, lw=0.9, ls=(0, (2, 2)), zorder=1)
            x, y = drawn[-1]
            at = y[x == best]
            ax.plot([best] * len(at), at, "o", ms=6, mfc="white", mec=VALID, mew=1.8, zorder=5)
            ax.annotate(
                f" epoch {best:g} ", (best, 1), xycoords=("data", "axes fraction"), va="top",
                ha="left" if best < 0.8 * x.max() else "right", fontsize=8.5, color=QUIET,
            )  # fmt: skip
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
        ax.set_xlabel("epoch", fontsize=9, color=QUIET)
    found = (ax.get_legend_handles_labels() for ax in grid)
    handles, names = max(found, key=lambda pair: len(pair[0]))
    figure.legend(handles, names, loc="outside upper right", ncols=2, frameon=False, fontsize=9)
    return figure


def _spread(positions: Sequence[float], gap: float) -> list[float]:
    """The positions moved apart until neighbours are `gap` apart, each as little as may be."""
    order = np.argsort(positions)
    placed = np.asarray(positions, np.float64)[order]
    for _ in range(200):
        close = np.maximum(gap - np.diff(placed), 0) / 2
        placed[:-1] -= close
        placed[1:] += close
    return placed[np.argsort(order)].tolist()


def metric_against_rate(rows: tables.Rows, metric: str) -> Figure:
    """A line a method over the realised missing rate, with a band of one std over seeds."""
    figure = blank(9.6, 4.8)
    ax = figure.subplots()
    tidy(ax, tables.metric_label(metric))
    found = tables.rates(rows)
    summary = tables.summarise(tables.select(rows, protocol="random", metric=metric))
    scale = 100 if tables.is_fraction(metric) else 1
    ends = {}
    for method in reversed(tables.methods_of(rows)):  # diffusion comes last and lies on top
        stats = {x: summary.get((method, "random", c, metric)) for c, x in found.items()}
        stats = {x: s for x, s in stats.items() if s is not None and math.isfinite(s[0])}
        if not stats:
            continue
        x, y = np.array([*stats]), scale * np.array([s[0] for s in stats.values()])
        std = scale * np.nan_to_num([s[1] for s in stats.values()])
        hue, strong = colour(method), method.startswith("diffusion")
        dash = (0, (4, 2)) if method in (*tables.OUTSIDE, "zero", "mean") else "-"
        ax.plot(x, y, color=hue, lw=2.6 if strong else 1.6, ls=dash, marker="o", ms=4.5)
        ax.fill_between(x, y - std, y + std, color=hue, alpha=0.16 if strong else 0.09, lw=0)
        ends[method] = (x[-1], y[-1])
    ax.set_xlabel("realised missing rate", fontsize=9.5, color=QUIET)
    ax.set_xticks([*found.values()], [f"{x:.3g}" for x in found.values()])
    low, high = ax.get_ylim()
    places = _spread([y for _, y in ends.values()], 0.058 * (high - low))
    for (method, (x, y)), place in zip(ends.items(), places, strict=True):
        # The name stands right of the line's end; a hair line leads to it where it had to move.
        ax.annotate(
            _name(tables.method_label(method)), (x, y), (1.04, place), fontsize=9.5, color=INK,
            textcoords=ax.get_yaxis_transform(), va="center", annotation_clip=False,
            fontweight="bold" if method.startswith("diffusion") else "normal",
            arrowprops={"arrowstyle": "-", "color": colour(method), "relpos": (0, 0.5)},
        )  # fmt: skip
    return figure


def bars_per_pattern(rows: tables.Rows, metric: str, modalities: tables.Names = None) -> Figure:
    """Grouped bars over the availability patterns; the Bayes optimum is a black line over each."""
    summary = tables.summarise(rows) | tables.average_over_patterns(rows, modalities)
    summary = {(k[0], k[2]): s for k, s in summary.items() if k[1] == "fixed" and k[3] == metric}
    summary = {k: s for k, s in summary.items() if math.isfinite(s[0])}
    shown = [c for c in [*tables.patterns(rows), "average"] if any(k[1] == c for k in summary)]
    methods = [m for m in tables.methods_of(rows) if any(k[0] == m for k in summary)]
    bars = [m for m in methods if m != "bayes"]
    scale = 100 if tables.is_fraction(metric) else 1
    figure = blank(max(9.6, 1.4 * len(shown)), 4.4)
    ax = figure.subplots()
    tidy(ax, tables.metric_label(metric))
    width = 0.82 / max(len(bars), 1)
    # The average stands a little apart from the patterns it summarises.
    centre = {c: i + 0.25 * (c == "average") for i, c in enumerate(shown)}
    for j, method in enumerate(bars):
        at = [c for c in shown if (method, c) in summary]
        x = [centre[c] + (j - (len(bars) - 1) / 2) * width for c in at]
        y = [scale * summary[method, c][0] for c in at]
        std = [scale * np.nan_to_num(summary[method, c][1]) for c in at]
        ax.bar(x, y, 0.9 * width, color=colour(method), label=_name(tables.method_label(method)))
        ax.errorbar(x, y, std, fmt="none", ecolor=INK, elinewidth=0.9, capsize=0)
    for i, c in enumerate(c for c in shown if ("bayes", c) in summary):
        y = scale * summary["bayes", c][0]
        label = tables.method_label("bayes") if i == 0 else None
        ax.plot([centre[c] - 0.44, centre[c] + 0.44], [y, y], color="black", lw=1.8, label=label)
    values = [scale * s[0] for s in summary.values()] or [0.0]
    if metric.startswith(("acc2", "f1")):  # chance is 50: bars that start there show the gain
        ax.set_ylim(bottom=max(0, min(50, 10 * math.floor(min(values) / 10))))
    ax.set_xticks([*centre.values()], [_name(c) for c in shown], color=INK, fontsize=10)
    ax.set_xlim(-0.5, max(centre.values(), default=0) + 0.5)
    ax.tick_params(axis="x", pad=6)
    entries = list(zip(*ax.get_legend_handles_labels(), strict=True))
    entries.sort(key=lambda entry: entry[0] in ax.lines)  # the bars first, then the Bayes line
    style = {"loc": "outside lower center", "ncols": 5, "frameon": False, "fontsize": 9}
    legend = figure.legend([e[0] for e in entries], [e[1] for e in entries], **style)
    for text in legend.get_texts():
        text.set_fontweight("bold" if text.get_text().startswith("diffusion") else "normal")
    return figure


def save(figure: Figure, path: Path) -> None:
    """Writes a PNG at 150 dots an inch, atomically."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    write_bytes(path, buffer.getvalue())
