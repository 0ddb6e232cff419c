"""Mean ranks of a run's systems, in the manner of critical-difference diagrams (Demšar 2006)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from mmdjax.evaluation.figures import INK, NARROW, QUIET, RULE, blank, brief, colours, mark
from mmdjax.evaluation.findings import verdict
from mmdjax.evaluation.tables import Results

FEWEST = 3  # systems below which a rank says nothing more than a difference


def rank_chart(results: Results, protocol: str) -> tuple[Callable[..., Figure], str] | None:
    """Return (narrow) -> the figure, with its caption; None for few systems.

    A line is the interval of a rank that is averaged over a protocol's conditions. A full dot is a
    system that is distinguishable from the first one, which is a diamond.
    """
    ranks = {s: results.ranks.get((protocol, s.name)) for s in results.systems}
    ranks = {s: rank for s, rank in ranks.items() if rank is not None}
    if len(ranks) < FEWEST or results.systems[0] not in ranks:
        return None
    caption = (
        "Mean rank over conditions; lines: 95 % of resamplings of seeds and utterances. Diamond: "
        "the first system; hollow dots are not distinguishable from it (paired, Holm)."
    )
    return functools.partial(_figure, results, protocol, ranks), caption


def _figure(results: Results, protocol: str, ranks: Mapping, narrow: bool = False) -> Figure:
    order = sorted(ranks, key=lambda s: ranks[s].mean)
    hues = colours(results.systems)
    figure = blank(NARROW if narrow else 7.2, 1.1 + 0.26 * len(order))
    ax = figure.subplots()
    ax.spines[["bottom", "right", "left"]].set_visible(False)
    ax.spines["top"].set_color(QUIET)
    ax.tick_params(labelsize=9, colors=QUIET, length=0, top=True, labeltop=True, labelbottom=False)
    ax.grid(axis="x", color=RULE, linewidth=0.8)
    ax.set_axisbelow(True)
    for y, system in enumerate(order):
        rank, hue = ranks[system], hues[system.name]
        apart = verdict(results.tested.get((protocol, system.name))).startswith("yes")
        interval = {"lw": 2.2, "alpha": 0.55, "capstyle": "round"}
        mark(ax.hlines(y, rank.low, rank.high, hue, **interval), system.name)
        marker = "D" if system == results.systems[0] else "o"
        face = hue if apart or system == results.systems[0] else "white"
        (dot,) = ax.plot(rank.mean, y, marker, ms=6.5, mfc=face, mec=hue, mew=1.6)
        told = f"mean rank {rank.mean:.1f}, {rank.low:.1f} to {rank.high:.1f}"
        mark(dot, system.name, told)
    longest = 22 if narrow else 40
    ax.set_yticks(range(len(order)), [brief(s.name, longest) for s in order], color=INK, fontsize=9)
    for label, system in zip(ax.get_yticklabels(), order, strict=True):
        label.set_fontweight("bold" if system == results.systems[0] else "normal")
        mark(label, system.name)
    ax.set_ylim(len(order) - 0.4, -0.6)
    ax.set_xlim(0.6, len(order) + 0.4)
    ax.xaxis.set_major_locator(MultipleLocator(1 if len(order) <= 12 else 2, offset=1))
    ax.set_xlabel("mean rank (1 is best)", fontsize=9.5, color=QUIET)
    ax.xaxis.set_label_position("top")
    return figure
