"""Figures of a run. Every function returns a `Figure` of its own; pyplot is not involved."""

from __future__ import annotations

import io
import math
import re
import zlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from mmdjax.evaluation import tables
from mmdjax.runtime.files import write_bytes

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
# Groups of bars (four modalities have 16), and letters of their names, legible side by side.
MOST_BARS, LONGEST_NAME = 16, 16
MOST_BANDS = 9  # more of them around lines are one grey


def colour(method: str) -> str:
    """One colour a method, whatever else is drawn; by a hash where it is not in the list."""
    if (variant := re.sub(r"_k\d+$", "", method)) in VARIANTS and method not in COLOURS:
        return VARIANTS[variant]
    return COLOURS.get(method, SPARE[zlib.crc32(method.encode()) % len(SPARE)])


def brief(text: str, longest: int = 28) -> str:
    """An id as matplotlib may show it: no mathematics between dollars, no endless line."""
    text = " ".join(text.split()).replace("$", r"\$")
    text = text if len(text) <= longest else text[: longest - 1] + "…"
    return f" {text}" if text.startswith("_") else text  # legends skip a leading underscore


def blank(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)  # ticks of neighbours stay apart
    return figure


def tidy(ax: Axes, title: str) -> None:
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.spines["bottom"].set_color("#b5b5b5")
    ax.tick_params(colors=QUIET, labelsize=9, length=0, which="both")
    ax.grid(axis="y", color=RULE, linewidth=0.8)
    ax.set_axisbelow(True)
    ax.set_title(title, loc="left", fontsize=11, color=INK, fontweight="bold", pad=8)


def loss_curves(history: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """One small panel a phase: training and validation loss of each seed, and the epoch that was
    kept.

    Args:
      history: 'phase', or 'phase, seed N', -> {"epoch", "train", "valid", "best"}.
    """
    phases: dict[str, list] = {}
    for name, curves in history.items():
        phases.setdefault(re.sub(r", seed \d+$", "", name), []).append(curves)
    columns = min(3, max(1, len(phases)))
    lines = max(1, math.ceil(len(phases) / columns))
    figure = blank(max(4.0 * columns, 5.0), 2.9 * lines)
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for ax in grid[len(phases) :]:
        ax.set_visible(False)
    for ax, (phase, of_seeds) in zip(grid, phases.items(), strict=False):
        tidy(ax, brief(phase, 34))
        drawn = []
        for curves in of_seeds:
            drawn += (own := _loss_of(ax, curves, "_" if drawn else ""))
            _kept_epoch(ax, own, curves.get("best"), told=len(of_seeds) == 1)
        values = np.array([v for _, y in drawn for v in y if math.isfinite(v)])
        if len(values) and values.min() > 0:
            ax.set_yscale("log")
            if (ratio := values.max() / values.min()) < 300:  # such numbers need no powers of ten
                few = LogLocator(subs=(1, 2, 5)) if ratio > 8 else MaxNLocator(4)
                ax.yaxis.set_major_locator(few)
                ax.yaxis.set_major_formatter("{x:g}")
                ax.yaxis.set_minor_formatter("")
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
        ax.set_xlabel("epoch", fontsize=9, color=QUIET)
    found = (ax.get_legend_handles_labels() for ax in grid)
    handles, names = max(found, key=lambda pair: len(pair[0]))
    figure.legend(handles, names, loc="outside upper right", ncols=2, frameon=False, fontsize=9)
    return figure


def _loss_of(ax: Axes, curves: Mapping, hidden: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Plots one seed; hidden: '_' where the legend has its curves already."""
    drawn = []
    for part, label, hue in (("train", "training", TRAIN), ("valid", "validation", VALID)):
        pairs = list(zip(curves.get("epoch", ()), curves.get(part, ()), strict=False))
        if pairs:
            x, y = np.array(pairs, np.float64).T
            marker = "o" if len(x) == 1 else None
            ax.plot(x, y, color=hue, lw=1.8, label=hidden + label, marker=marker)
            drawn.append((x, y))
    return drawn


def _kept_epoch(ax: Axes, drawn, best, told: bool) -> None:
    """A circle on the last curve; told: with a line and the number."""
    if best is None or not drawn:
        return
    x, y = drawn[-1]
    at = y[x == best]
    ax.plot([best] * len(at), at, "o", ms=6, mfc="white", mec=VALID, mew=1.8, zorder=5)
    if told:
        ax.axvline(best, color=QUIET, lw=0.9, ls=(0, (2, 2)), zorder=1)
        ax.annotate(
            f" epoch {best:g} ", (best, 1), xycoords=("data", "axes fraction"), va="top",
            ha="left" if best < 0.8 * x.max() else "right", fontsize=8.5, color=QUIET,
        )  # fmt: skip


def _spread(positions: Sequence[float], gap: float) -> list[float]:
    """The positions moved apart until neighbours are `gap` apart, each as little as may be."""
    order = np.argsort(positions)
    placed = np.asarray(positions, np.float64)[order]
    for _ in range(2000):
        close = np.maximum(gap - np.diff(placed), 0) / 2
        placed[:-1] -= close
        placed[1:] += close
    return placed[np.argsort(order)].tolist()


def metric_against_rate(
    rows: tables.Rows,
    metric: str,
    hues: Mapping[str, str] | None = None,
    dashed: Collection[str] = (*tables.OUTSIDE, "zero", "mean"),
) -> Figure:
    """A line a method over the realised missing rate, with a band of one std over seeds.

    Args:
      hues: method -> colour, where methods are not those of a run; many of them have no bands.
      dashed: methods that do not draw.
    """
    own = tables.select(rows, protocol="random", metric=metric)
    present, summary = tables.methods_of(own), tables.summarise(own)
    banded, hues = hues is None or len(present) <= MOST_BANDS, hues or {}
    figure = blank(9.6, max(4.8, 0.3 * len(present) + 1.2))
    ax = figure.subplots()
    tidy(ax, tables.metric_label(metric))
    found = tables.rates(rows)
    scale = 100 if tables.is_fraction(metric) else 1
    ends = {}
    for method in reversed(present):  # diffusion comes last and lies on top
        stats = {x: summary.get((method, "random", c, metric)) for c, x in found.items()}
        stats = {x: s for x, s in stats.items() if s is not None and math.isfinite(s[0])}
        if not stats:
            continue
        x, y = np.array([*stats]), scale * np.array([s[0] for s in stats.values()])
        std = scale * np.nan_to_num([s[1] for s in stats.values()])
        hue, strong = hues.get(method) or colour(method), method.startswith("diffusion")
        dash = (0, (4, 2)) if method in dashed else "-"
        ax.plot(x, y, color=hue, lw=2.6 if strong else 1.6, ls=dash, marker="o", ms=4.5)
        if banded:
            ax.fill_between(x, y - std, y + std, color=hue, alpha=0.16 if strong else 0.09, lw=0)
        ends[method] = (x[-1], y[-1])
    ax.set_xlabel("realised missing rate", fontsize=9.5, color=QUIET)
    ax.set_xticks([*found.values()], [f"{x:.3g}" for x in found.values()])
    low, high = ax.get_ylim()
    gap = 0.28 / figure.get_figheight() * (high - low)
    places = _spread([y for _, y in ends.values()], gap)
    for (method, (x, y)), place in zip(ends.items(), places, strict=True):
        # The name stands right of the line's end; a hair line leads to it where it had to move.
        ax.annotate(
            brief(tables.method_label(method), 34), (x, y), (1.04, place), fontsize=9.5, color=INK,
            textcoords=ax.get_yaxis_transform(), va="center", annotation_clip=False,
            fontweight="bold" if method.startswith("diffusion") else "normal",
            arrowprops={"arrowstyle": "-", "relpos": (0, 0.5), "color": hues.get(method) or
                        colour(method)},
        )  # fmt: skip
    return figure


def bars_per_pattern(rows: tables.Rows, metric: str, modalities: tables.Names = None) -> Figure:
    """Grouped bars over the availability patterns; the Bayes optimum is a black line over each.
    Beyond `MOST_BARS` groups, or with long names, a line of dots each."""
    summary = tables.summarise(rows) | tables.average_over_patterns(rows, modalities)
    summary = {(k[0], k[2]): s for k, s in summary.items() if k[1] == "fixed" and k[3] == metric}
    summary = {k: s for k, s in summary.items() if math.isfinite(s[0])}
    shown = [c for c in [*tables.patterns(rows), "average"] if any(k[1] == c for k in summary)]
    methods = [m for m in tables.methods_of(rows) if any(k[0] == m for k in summary)]
    bars = [m for m in methods if m != "bayes"]
    scale = 100 if tables.is_fraction(metric) else 1
    if len(shown) > MOST_BARS or max(map(len, shown), default=0) > LONGEST_NAME:
        return _dots_per_pattern(summary, shown, methods, metric, scale)
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
        ax.bar(x, y, 0.9 * width, color=colour(method), label=brief(tables.method_label(method)))
        ax.errorbar(x, y, std, fmt="none", ecolor=INK, elinewidth=0.9, capsize=0)
    for i, c in enumerate(c for c in shown if ("bayes", c) in summary):
        y = scale * summary["bayes", c][0]
        label = tables.method_label("bayes") if i == 0 else None
        ax.plot([centre[c] - 0.44, centre[c] + 0.44], [y, y], color="black", lw=1.8, label=label)
    values = [scale * s[0] for s in summary.values()] or [0.0]
    if metric.startswith(("acc2", "f1")):  # chance is 50: bars that start there show the gain
        ax.set_ylim(bottom=max(0, min(50, 10 * math.floor(min(values) / 10))))
    ax.set_xticks([*centre.values()], [brief(c) for c in shown], color=INK, fontsize=10)
    ax.set_xlim(-0.5, max(centre.values(), default=0) + 0.5)
    ax.tick_params(axis="x", pad=6)
    entries = list(zip(*ax.get_legend_handles_labels(), strict=True))
    entries.sort(key=lambda entry: entry[0] in ax.lines)  # the bars first, then the Bayes line
    _legend(figure, entries)
    return figure


def _dots_per_pattern(summary, shown, methods, metric: str, scale: float) -> Figure:
    """Patterns from top to bottom; a dot a method, its deviation over seeds as a line through it,
    and the Bayes optimum as a black stroke."""
    figure = blank(9.6, 1.6 + 0.27 * len(shown))
    ax = figure.subplots()
    tidy(ax, tables.metric_label(metric))
    ax.grid(axis="x", color=RULE, linewidth=0.8)
    ax.grid(visible=False, axis="y")
    line, places, size = 0.0, {}, 0
    for condition in shown:
        parts = 0 if condition == "average" else condition.count("+") + 1
        line += 1.5 if places and parts != size else 1.0  # numbers of modalities stand apart
        places[condition], size = line, parts
    ax.hlines([*places.values()], 0, 1, RULE, lw=0.8, transform=ax.get_yaxis_transform(), zorder=0)
    for method in reversed(methods):  # diffusion comes last and lies on top
        at = [c for c in shown if (method, c) in summary]
        x, std = (scale * np.array([summary[method, c][i] for c in at]) for i in (0, 1))
        style = {"color": colour(method), "label": brief(tables.method_label(method))}
        if method == "bayes":
            style |= {"marker": "|", "ms": 13, "mew": 2}
        else:
            style |= {"marker": "o", "ms": 6 if method.startswith("diffusion") else 4.5}
        y = [places[c] for c in at]
        ax.errorbar(x, y, xerr=np.nan_to_num(std), ls="none", elinewidth=0.9, **style)
    ax.set_yticks([*places.values()], [brief(c, 64) for c in shown], color=INK, fontsize=9)
    ax.set_ylim(line + 0.8, 0.2)
    _legend(figure, list(zip(*ax.get_legend_handles_labels(), strict=True))[::-1])
    return figure


def _legend(figure: Figure, entries) -> None:
    """Below a figure; entries: (handle, name) each."""
    style = {"loc": "outside lower center", "ncols": 5, "frameon": False, "fontsize": 9}
    legend = figure.legend([e[0] for e in entries], [e[1] for e in entries], **style)
    for text in legend.get_texts():
        text.set_fontweight("bold" if text.get_text().startswith("diffusion") else "normal")


def save(figure: Figure, path: Path) -> None:
    """Writes a PNG at 150 dots an inch, atomically."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    write_bytes(path, buffer.getvalue())
