"""The fan of draws: a few test utterances, what was hidden of them, and how it was drawn.

What is shown is taken from the completions that are evaluated anyway: nothing is drawn for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mmdjax.data.missing.patterns import pattern_name
from mmdjax.evaluation.figures import COOL, INK, NARROW, blank, brief, mark, tidy
from mmdjax.evaluation.words import shown_by
from mmdjax.methods.method import Method

COLUMNS = 4  # utterances of the picture, each under another pattern
MOST_POINTS = 48  # of a line
MOST_DRAWS = 16
OBSERVED, HIDDEN, DRAWS, MEAN = "observed", "hidden: the truth", "draws", "mean of the draws"
LEGEND = (OBSERVED, HIDDEN, DRAWS, MEAN)
CAPTION = (
    "Test utterances of which the shaded modalities are hidden: K draws of each from its "
    "distribution given what is observed, their mean, their 5 to 95 % band, and the truth, which "
    "no system saw. One number of the method's space over time, the one that varies most, or the "
    "numbers of a vector; first system that draws, first seed."
)
DRAWN, TRUTH, GAP = COOL[0], "#c44e00", "#f2f5fa"


class Place(NamedTuple):
    """Which utterance is shown under which pattern."""

    pattern: str
    row: int


def places(
    method: Method, split: str, patterns: np.ndarray | None, rows: np.ndarray | None = None
) -> dict[int, Place]:
    """Return condition -> what is shown of it, the same in every run on the same data.

    Only utterances that have all modalities by nature are shown: what is hidden has a truth.

    Args:
      method: `mmdjax.methods.method.Method`. patterns: (Q, M) bool; None where conditions are no
        patterns.
      rows: (N,) the utterances of the split that are at hand, where those are not all.
    """
    if patterns is None:
        return {}
    incomplete = [pattern_name(p, method.modalities) for p in method.dataset.patterns[:-1]]
    whole = np.flatnonzero(method.dataset.splits[split].present.all(1))
    if not incomplete or not len(whole):
        return {}
    picked = np.unique(np.linspace(0, len(incomplete) - 1, COLUMNS).round().astype(int))
    utterances = whole[np.linspace(0, len(whole) - 1, len(picked)).astype(int)]
    of_names = {incomplete[q]: row for q, row in zip(picked, utterances, strict=True)}
    result = {}
    for q, pattern in enumerate(patterns):
        name = pattern_name(pattern, method.modalities)
        row = of_names.get(name, -1)
        here = np.flatnonzero(rows == row) if rows is not None else [row]
        if row >= 0 and len(here):
            result[q] = Place(name, int(here[0]))
    return result


def strand(
    pattern: str,
    modality: int,
    true: np.ndarray,
    frames: np.ndarray,
    row: int,
    drawn: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Return the lines of one panel by 'PATTERN/MODALITY/KIND': 'true' (T,), 'draws' (K, T) where
    the modality is hidden, and 'channel', the one of all that varies most.

    Of vectors, which have one frame, a line runs over their numbers, and the channel is -1.

    Args:
      true: (N, T, C) of every utterance. frames: (N, T). row: that is shown.
      drawn: (K, T, C) completions of it; None where it is observed.
    """
    if true.shape[1] > 1:
        channel = int(true[frames].var(0).argmax())
        cut, known = np.s_[..., :MOST_POINTS, channel], frames[row][:MOST_POINTS]
    else:
        channel, cut, known = -1, np.s_[..., 0, :MOST_POINTS], frames[row]
    lines = {"true": true[row][cut], "channel": np.array(channel)}
    if drawn is not None:
        lines["draws"] = np.asarray(drawn)[:MOST_DRAWS][cut]
    return {
        f"{pattern}/{modality}/{kind}": (
            line if kind == "channel" else np.where(known, line, np.nan).astype(np.float32)
        )
        for kind, line in lines.items()
    }


def picture(
    arrays: Mapping[str, np.ndarray], modalities: Sequence[str], narrow: bool = False
) -> Figure:
    """Return a panel for each modality of each utterance; what is hidden has a fan of draws.

    Args:
      arrays: of `strand`, of all panels.
    """
    panels: dict[str, dict[int, dict[str, np.ndarray]]] = {}
    for key, line in arrays.items():
        pattern, modality, kind = key.rsplit("/", 2)
        panels.setdefault(pattern, {}).setdefault(int(modality), {})[kind] = line
    columns = min(len(panels), 2 if narrow else COLUMNS)
    blocks = -(-len(panels) // columns)
    height, legend = 1.5 * len(modalities) * blocks, 0.5
    figure = blank(NARROW if narrow else 2.35 * columns + 0.3, height + legend)
    figure.get_layout_engine().set(w_pad=0.04, h_pad=0.05)
    grid = figure.subplots(len(modalities) * blocks, columns, squeeze=False)
    for ax in grid.ravel():
        ax.set_visible(False)
    given = shown_by(modalities)
    for i, (pattern, lines) in enumerate(panels.items()):
        for m, name in enumerate(modalities):
            ax = grid[i // columns * len(modalities) + m, i % columns]
            ax.set_visible(True)
            tidy(ax, "")
            if m == 0:
                title = brief("given " + " + ".join(given[pattern]), 22 if narrow else 28)
                ax.set_title(title, loc="left", fontsize=9.5, color=INK, fontweight="bold")
            panel(ax, lines[m])
            if i % columns == 0:
                ax.set_ylabel(brief(name, 16), fontsize=9.5, color=INK)
            if m == len(modalities) - 1:
                vector = lines[m]["channel"] < 0
                ax.set_xlabel("number of the vector" if vector else "frame", fontsize=9)
    for m in range(len(modalities)):  # panels of a modality have one scale
        drawn = [ax for row in grid[m :: len(modalities)] for ax in row if ax.get_visible()]
        ends = np.array([ax.get_ylim() for ax in drawn])
        for ax in drawn:
            ax.set_ylim(ends.min(), ends.max())
            ax.tick_params(labelleft=ax in grid[:, 0])
    handles: dict[str, object] = {}
    for ax in grid.ravel():
        handles |= dict(zip(*ax.get_legend_handles_labels()[::-1], strict=True))
    order = [name for name in LEGEND if name in handles]
    figure.legend(
        [handles[name] for name in order], order, loc="outside lower center",
        ncols=min(len(order), columns), frameon=False, fontsize=9,
    )  # fmt: skip
    return figure


def panel(ax: Axes, lines: Mapping[str, np.ndarray]) -> None:
    """Draw an observed modality, or the fan over a hidden one with its truth."""
    true, draws = lines["true"], lines.get("draws")
    x = np.arange(1, len(true) + 1)
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(4))
    ax.margins(y=0.12)
    ax.set_xlim(0.5, len(true) + 0.5)
    if draws is None:
        mark(ax.plot(x, true, "-o", color=INK, ms=2.6, lw=1.3, label=OBSERVED)[0], OBSERVED)
        return
    ax.axvspan(0.5, len(true) + 0.5, color=GAP, lw=0, zorder=0)
    ends = np.quantile(draws, (0.05, 0.95), axis=0)
    mark(ax.fill_between(x, *ends, color=DRAWN, alpha=0.12, lw=0), DRAWS)
    for draw in draws:
        mark(ax.plot(x, draw, color=DRAWN, lw=0.9, alpha=0.45, label=DRAWS)[0], DRAWS)
    style = {"ms": 2.6, "lw": 1.3, "ls": (0, (3, 2)), "zorder": 4, "color": TRUTH, "marker": "o"}
    (line,) = ax.plot(x, true, label=HIDDEN, **style)
    mark(line, HIDDEN, *(f"{value:.2f}" for value in true[np.isfinite(true)]))
    (line,) = ax.plot(x, draws.mean(0), color=DRAWN, lw=2.4, label=MEAN, marker="o", ms=0.1)
    texts = [f"{m:.2f}, deviation of draws {s:.2f}" for m, s in zip(
        draws.mean(0), draws.std(0), strict=True) if np.isfinite(m)]  # fmt: skip
    mark(line, MEAN, *texts)
