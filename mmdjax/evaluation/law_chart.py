"""The calibration of draws: how often their intervals hold the truth, against what they promise."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

from matplotlib.figure import Figure

from mmdjax.evaluation.figures import NARROW, QUIET, blank, brief, colours, mark, tidy
from mmdjax.evaluation.tables import Results, Shown, Stat

CAPTION = (
    "Calibration: the share of hidden numbers that lie in the central interval of their K draws, "
    "over the share that it promises; means over what is drawn from what. Draws of the right law "
    "lie on the grey line, for any K; below it they are too narrow."
)


def calibration(results: Results) -> tuple[Callable[..., Figure], str] | None:
    """Return (narrow) -> the figure, with its caption; None where no coverage was measured."""
    lines: dict[Shown, Mapping[str, Stat]] = {}
    for system, line in results.by_condition("calibration", "coverage").items():
        if line not in lines.values():  # systems that share their draws have one line
            lines[system] = line
    return (functools.partial(_figure, results, lines), CAPTION) if lines else None


def _figure(
    results: Results, lines: Mapping[Shown, Mapping[str, Stat]], narrow: bool = False
) -> Figure:
    figure, hues = blank(NARROW if narrow else 5.6, 4.1), colours(results.systems)
    ax = figure.subplots()
    tidy(ax, "covered (%)")
    ax.plot([0, 100], [0, 100], color=QUIET, lw=1, ls=(0, (4, 2)), zorder=1)
    for system, stats in reversed(lines.items()):
        x, y = zip(*((100 * float(c), 100 * s[0]) for c, s in stats.items()), strict=True)
        style = {"marker": "o", "ms": 4.5, "lw": 2, "label": brief(system.name)}
        (line,) = ax.plot(x, y, color=hues[system.name], **style)
        mark(line, system.name, *(
            f"{100 * s[0]:.1f} % in intervals of {100 * float(c):.0f} %" for c, s in stats.items()
        ))  # fmt: skip
    ax.set_xlabel("interval of draws (%)", fontsize=9.5, color=QUIET)
    ax.set_xlim(0, 100)
    ax.set_ylim(0, 100)
    ax.set_aspect("equal")
    entries = list(zip(*ax.get_legend_handles_labels(), strict=True))[::-1]
    figure.legend(
        [e[0] for e in entries], [e[1] for e in entries], loc="outside lower center",
        ncols=min(2, len(entries)), frameon=False, fontsize=9,
    )  # fmt: skip
    return figure
