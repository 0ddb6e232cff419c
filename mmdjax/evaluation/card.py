"""The summary card of a run: one picture to share, with the headline and a chart."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmdjax.evaluation import fans, headline
from mmdjax.evaluation.figures import INK, QUIET, RULE, brief, colours
from mmdjax.evaluation.tables import AVERAGE, Results, cell
from mmdjax.runtime.files import write_bytes
from mmdjax.tasks import metric

if TYPE_CHECKING:
    from mmdjax.evaluation.report import Context

PIXELS, DPI = (1200, 630), 100  # what pages that preview links show
MOST_ROWS, MOST_TILES = 9, 4
ACCENT = "#0b5cad"


def write(path: Path, title: str, about: str, results: Results, context: Context) -> None:
    """Write the card as PNG.

    Args:
      about: the data and the date. context: `report.Context`.
    """
    buffer = io.BytesIO()
    card(title, about, results, context).savefig(
        buffer, format="png", dpi=DPI, metadata={"Software": None}
    )
    write_bytes(path, buffer.getvalue())


def card(title: str, about: str, results: Results, context: Context) -> Figure:
    """Return the card: the title, the tiles of the report, and the fan or the systems."""
    width, height = (side / DPI for side in PIXELS)
    figure = Figure(figsize=(width, height), facecolor="white")
    figure.text(0.05, 0.88, brief(title, 44), fontsize=30, color=INK, fontweight="bold")
    figure.text(0.05, 0.825, brief(about, 140), fontsize=12, color=QUIET)
    tiles = headline.tiles(results, context.costs)[:MOST_TILES]
    for i, tile in enumerate(tiles):
        x, y = 0.05 + 0.25 * (i % 2), 0.66 - 0.36 * (i // 2)
        figure.text(x, y + 0.07, brief(tile.label, 24), fontsize=13, color=QUIET)
        figure.text(
            x, y - 0.015, brief(tile.value, 16), fontsize=24, color=ACCENT, fontweight="bold"
        )
        note = textwrap.wrap(brief(tile.note, 96), 30)[:4]
        figure.text(
            x, y - 0.05, "\n".join(note), fontsize=11, color=INK, va="top", linespacing=1.35
        )
    figure.text(0.05, 0.045, "mmdjax", fontsize=14, color=INK, fontweight="bold")
    figure.text(0.135, 0.045, "multimodal diffusion in JAX", fontsize=12.5, color=QUIET)
    if len(headline.ranking(results)) > 2 or not context.fan:
        _systems(figure.add_axes((0.76, 0.13, 0.205, 0.62)), results)
    else:
        _fan(figure.add_axes((0.6, 0.16, 0.36, 0.56)), context.fan, results.modalities)
    return figure


def _systems(ax: Axes, results: Results) -> None:
    """Draw the best systems, the best on top, and the yardsticks below them."""
    entry, hues = metric(results.task.headline), colours(results.systems)
    stats = results.by_system("fixed", AVERAGE, entry.name)
    yardsticks = [s.name for s in results.systems if s.yardstick and s.name in stats]
    names = [*headline.ranking(results)[: MOST_ROWS - len(yardsticks)], *yardsticks]
    values = [entry.scale * stats[name][0] for name in names]
    ax.spines[:].set_visible(False)
    ax.set_title(entry.title(arrow=True), loc="left", fontsize=13, color=INK, fontweight="bold")
    if not names:
        ax.set_axis_off()
        return
    ax.grid(axis="y", color=RULE)
    ax.set_axisbelow(True)
    ax.scatter(values, range(len(names)), 130, [hues[name] for name in names])
    for y, (name, value) in enumerate(zip(names, values, strict=True)):
        place = {"xytext": (9, 0), "textcoords": "offset points", "va": "center"}
        text = cell(entry.name, stats[name]).split()[0]
        ax.annotate(text, (value, y), fontsize=11, color=INK, **place)
    ax.set_yticks(range(len(names)), [brief(n, 26) for n in names], fontsize=11, color=INK)
    ax.set_xticks([])
    ax.tick_params(length=0)
    span = max(values) - min(values) or 1
    ax.set_xlim(min(values) - 0.08 * span, max(values) + 0.3 * span)
    ax.set_ylim(len(names) - 0.4, -0.6)


def _fan(ax: Axes, arrays: Mapping[str, np.ndarray], modalities: Sequence[str]) -> None:
    """Draw the fan of the first hidden modality."""
    key = next(key for key in arrays if key.endswith("/draws"))
    pattern, modality, _ = key.rsplit("/", 2)
    lines = {kind: arrays[f"{pattern}/{modality}/{kind}"] for kind in ("true", "draws")}
    fans.panel(ax, lines)
    ax.spines[:].set_visible(False)
    ax.grid(axis="y", color=RULE)
    ax.tick_params(length=0, colors=QUIET, labelsize=10)
    given = " + ".join(fans.shown_by(modalities)[pattern])
    title = f"{modalities[int(modality)]} drawn from {given}"
    ax.set_title(brief(title, 44), loc="left", fontsize=13, color=INK, fontweight="bold", pad=10)
    handles, names = ax.get_legend_handles_labels()
    shown = dict(zip(names, handles, strict=True))
    order = [name for name in fans.LEGEND if name in shown]
    ax.legend([shown[name] for name in order], order, loc="upper center", frameon=False,
              bbox_to_anchor=(0.46, -0.08), ncols=3, fontsize=10)  # fmt: skip
