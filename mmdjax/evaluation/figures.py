"""The look of all figures, names of points in them, and loss curves; without pyplot."""

from __future__ import annotations

import io
import json
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from mmdjax.evaluation import tables
from mmdjax.runtime.files import write_bytes

INK, QUIET, RULE = "#1c1c1c", "#6b6b6b", "#e4e4e4"
TRAIN, VALID = "#8a8a8a", "#0b5cad"
# Hues that stay apart for colour-blind readers: of systems that draw, of others as pairs (trained
# on complete data, trained on gaps), and of yardsticks.
COOL = ("#0b5cad", "#009e73", "#6bb3ea", "#5b4fa0", "#44aa99", "#06396c", "#8fb339", "#8899cc")
COOL += ("#1b6e3c", "#a88bd0", "#2e9fbf", "#6a2c91")
WARM = (
    ("#f0a83c", "#c44e00"),
    ("#d48fc0", "#882e72"),
    ("#e8907e", "#a11d33"),
    ("#c9b458", "#7a5c00"),
)
GREYS = ("#8f8f8f", "#b5b5b5", "#6b6b6b")
BLACK = "#000000"
WIDE, NARROW = 9.6, 4.3  # inches, of a figure on paper and of one on a phone


def colours(systems: Sequence[tables.Shown]) -> dict[str, str]:
    """Return system -> hue, by the method's name; what is added later changes no earlier one.

    The first system that draws is blue in every report.
    """
    hues: dict[str, str] = {}
    for s in systems:
        base, trained = s.method.removesuffix("_trained"), s.method.endswith("_trained")
        if s.yardstick:
            palette: Sequence[str] = (BLACK,) if s.method == tables.OPTIMUM else ()
            palette = [*palette, *GREYS]
        else:
            palette = COOL if s.draws else [pair[trained] for pair in WARM]
            first = s.draws and not set(hues.values()) & set(COOL)
            start = 0 if first else zlib.crc32(base.encode()) % len(palette)
            palette = [*palette[start:], *palette[:start]]
        used = list(hues.values())
        hues[s.name] = min(palette, key=used.count)  # the first free one
    return hues


def brief(text: str, longest: int = 28) -> str:
    """Return a name as matplotlib may show it: one short line, with no mathematics in dollars."""
    text = " ".join(text.split()).replace("$", r"\$")
    text = text if len(text) <= longest else text[: longest - 1] + "…"
    return f" {text}" if text.startswith("_") else text  # legends skip a leading underscore


def blank(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)  # ticks of neighbours stay apart
    return figure


def tidy(ax: Axes, title: str, grid: str = "y") -> None:
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.spines["bottom"].set_color("#b5b5b5")
    ax.tick_params(colors=QUIET, labelsize=9, length=0, which="both")
    ax.grid(axis=grid, color=RULE, linewidth=0.8)
    ax.set_axisbelow(True)
    ax.set_title(title, loc="left", fontsize=11, color=INK, fontweight="bold", pad=8)


def mark(artist: Artist, owner: str, *texts: str) -> None:
    """Say whose mark an artist is, and what each of its points tells a pointer; `vectors` reads it.

    Args:
      texts: one for each point that is drawn; none for an artist that only belongs to its owner.
    """
    artist.set_gid(json.dumps([owner, *texts]))


def name_points(
    ax: Axes,
    points: Sequence[tuple[float, float]],
    names: Sequence[Sequence[str]],
    whiskers: Sequence[float],
    longest: int = 34,
) -> None:
    """Write the names of each point, a line each, at the nearest place inside the axes that is
    clear of points, whiskers and other names; a hair line leads to it where it had to move.

    The figure is laid out here, and must not change afterwards.
    """
    figure = ax.figure
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    unit, (low, high) = figure.dpi / 72, ax.get_window_extent().get_points()
    points, std = np.array(points, np.float64).reshape(-1, 2), np.nan_to_num(whiskers)
    centres, ends = ax.transData.transform(points), np.stack([0 * std, std], 1)
    bottoms, tops = (ax.transData.transform(points + sign * ends) for sign in (-1, 1))
    taken = [*np.hstack([centres - 5 * unit, centres + 5 * unit]), *np.hstack([bottoms, tops + 1])]
    labels: list[np.ndarray] = []
    angles = np.deg2rad([0, 180, 90, 270, *range(15, 360, 15)])
    ways = [(r, np.cos(a), np.sin(a)) for r in (9, *range(16, 320, 10)) for a in angles]
    style = {"fontsize": 8.5, "color": INK, "ha": "center", "va": "center", "ma": "left"}
    for i in np.argsort(-centres[:, 1], kind="stable"):
        written = "\n".join(brief(name, longest) for name in names[i])
        text = ax.annotate(written, points[i], (0, 0), textcoords="offset points", **style)
        mark(text, names[i][0])
        half, best = text.get_window_extent().size / 2 + (unit, 0), None
        for r, cos, sin in ways:
            shift = r * unit * cos + half[0] * np.sign(round(cos, 6)), (r * unit + half[1]) * sin
            box = np.concatenate([centres[i] + shift - half, centres[i] + shift + half])
            end = np.clip(centres[i], box[:2], box[2:])
            line = np.linspace(end, centres[i], 12) if r > 10 else np.empty((0, 2))
            line = np.hstack([line, line + 1])
            out = max(*(low - box[:2]), *(box[2:] - high), 0)
            lost = out, _overlap(box[None], taken) + _overlap(line, labels)
            if best is None or lost < best[0]:
                best = lost, shift, box, end, line
            if not any(lost):
                break
        _, shift, box, end, line = best
        labels.append(box)
        taken += [box, *line]
        text.xyann = tuple(np.array(shift) / unit)
        if len(line):
            hair = {"arrowstyle": "-", "color": "#b5b5b5", "lw": 0.7, "shrinkA": 0, "shrinkB": 5}
            start = (end - centres[i]) / unit
            ax.annotate("", points[i], start, textcoords="offset points", arrowprops=hair)


def _overlap(boxes: np.ndarray, others: Sequence[np.ndarray]) -> float:
    """Return the area in common of boxes (left, bottom, right, top)."""
    if not len(boxes) or not len(others):
        return 0.0
    boxes, others = boxes[:, None], np.array(others)
    size = np.minimum(boxes[..., 2:], others[:, 2:]) - np.maximum(boxes[..., :2], others[:, :2])
    return float(size.clip(0).prod(-1).sum())


def loss_curves(
    history: Mapping[str, Mapping[str, Sequence[float]]], narrow: bool = False
) -> Figure:
    """Return a panel a phase: training and validation loss of each seed, and its best epoch.

    Args:
      history: 'phase', or 'phase, seed N', -> {"epoch", "train", "valid", "best"}.
    """
    phases: dict[str, list] = {}
    for name, curves in history.items():
        phases.setdefault(re.sub(r", seed \d+$", "", name), []).append(curves)
    columns = min(1 if narrow else 3, max(1, len(phases)))
    lines = max(1, math.ceil(len(phases) / columns))
    figure = blank(NARROW if narrow else max(4.0 * columns, 5.0), 2.9 * lines)
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for ax in grid[len(phases) :]:
        ax.set_visible(False)
    for ax, (phase, of_seeds) in zip(grid, phases.items(), strict=False):
        tidy(ax, brief(phase, 34))
        losses: list[float] = []
        for curves in of_seeds:
            losses += _draw_losses(ax, curves, "_" if losses else "", len(of_seeds) == 1)
        values = np.array([v for v in losses if math.isfinite(v)])
        if len(values) and values.min() > 0:
            ax.set_yscale("log")
            if (ratio := values.max() / values.min()) < 300:  # such numbers need no powers of ten
                few = LogLocator(subs=(1, 2, 5)) if ratio > 8 else MaxNLocator(4)
                ax.yaxis.set_major_locator(few)
                ax.yaxis.set_major_formatter("{x:g}")
                ax.yaxis.set_minor_formatter("")
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
        ax.set_xlabel("epoch", fontsize=9, color=QUIET)
    legends = (ax.get_legend_handles_labels() for ax in grid)
    handles, names = max(legends, key=lambda pair: len(pair[0]))
    figure.legend(handles, names, loc="outside upper right", ncols=2, frameon=False, fontsize=9)
    return figure


def _draw_losses(ax: Axes, curves: Mapping, hidden: str, alone: bool) -> list[float]:
    """Plot one seed, with a circle at the best epoch of the last curve; return its losses.

    Args:
      hidden: '_' where the legend has its curves already.
      alone: with a line at the best epoch and its number.
    """
    losses: list[float] = []
    for kind, label, hue in (("train", "training", TRAIN), ("valid", "validation", VALID)):
        pairs = list(zip(curves.get("epoch", ()), curves.get(kind, ()), strict=False))
        if pairs:
            x, y = np.array(pairs, np.float64).T
            marker = "o" if len(x) == 1 else None
            (line,) = ax.plot(x, y, color=hue, lw=1.8, label=hidden + label, marker=marker)
            mark(line, label)
            losses += [*y]
    best = curves.get("best")
    if best is None or not losses:
        return losses
    at = y[x == best]
    ax.plot([best] * len(at), at, "o", ms=6, mfc="white", mec=VALID, mew=1.8, zorder=5)
    if alone:
        ax.axvline(best, color=QUIET, lw=0.9, ls=(0, (2, 2)), zorder=1)
        ax.annotate(
            f" epoch {best:g} ", (best, 1), xycoords=("data", "axes fraction"), va="top",
            ha="left" if best < 0.8 * x.max() else "right", fontsize=8.5, color=QUIET,
        )  # fmt: skip
    return losses


def save(figure: Figure, path: Path) -> None:
    """Write a PNG at 150 dots an inch, and the same as vectors in a PDF beside it, atomically."""
    metadata = {"png": {"Software": None}, "pdf": {"CreationDate": None, "Producer": None}}
    for kind, about in metadata.items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, dpi=150, metadata=about)
        write_bytes(path.with_suffix(f".{kind}"), buffer.getvalue())
