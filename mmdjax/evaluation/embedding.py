"""Drawn and true features side by side: t-SNE pictures, and the numbers that go with them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from openTSNE import TSNE
from scipy.spatial.distance import cdist

from mmdjax.errors import UserError
from mmdjax.evaluation.figures import INK, QUIET, RULE, brief

STRIDE = 50  # iterations between two reports of progress
OBSERVED, TRUE, DRAWN = "observed", "true", "drawn"
# A modality is one hue, light for truth and dark for draws; they stay apart for colour-blind eyes.
HUES = [("#f0a83c", "#8f3600"), ("#6bb3ea", "#06396c"), ("#7ccf9f", "#00573b")]
HUES += [("#d48fc0", "#5e1a4d")]
BACKGROUND = "#cfcfcf"
LINE = 11.5  # points from one line of numbers to the next
NOTE = (
    "energy: energy distance of drawn and true features, 0 for one law\n"
    "1-NN: accuracy of a nearest neighbour at telling them apart, 0.5 for one law"
)


def _table(name: Hashable, rows: np.ndarray) -> np.ndarray:
    rows = np.asarray(rows, np.float64)
    if rows.ndim != 2 or not rows.size or not np.isfinite(rows).all():
        raise UserError(f"{name!r} {rows.shape} given; allowed: (N, D) of finite numbers")
    return rows


def two_sample_accuracy(x: np.ndarray, y: np.ndarray, paired: bool = False) -> float:
    """Leave-one-out accuracy of the nearest neighbour at telling x from y (Lopez-Paz & Oquab 2017).

    1 where the samples are apart; 0.5 where one law drew both, all rows independent (to be exact
    (N - 1) / (2 N - 1): a point left out is missing on its own side). Points that tie for the
    nearest share the vote: copies count by how many there are on either side.

    Where row i of both belongs to utterance i, a draw close to its own truth is that truth's
    neighbour, and the accuracy falls below 0.5, down to 0 for x = y. `paired` leaves out the
    counterpart too, as `metrics.energy_distance` does: 0.5 is then exact for pairs whose members
    may be exchanged, however dependent. So it tells about the law, not the reconstruction.

    Args:
      x, y: (N, D), as many of one as of the other; N is at least 2.

    Raises:
      UserError: other shapes, or numbers that are not finite.
    """
    x, y = _table("x", x), _table("y", y)
    if x.shape != y.shape or len(x) < 2:
        raise UserError(f"x {x.shape}, y {y.shape} given; allowed: both (N, D), N at least 2")
    rows, own = np.concatenate([x, y]), np.arange(2 * len(x))
    # Not by a matrix product: its rounding would part copies, which must tie.
    distance = cdist(rows, rows)
    distance[own, own] = np.inf
    if paired:
        distance[own, np.roll(own, len(x))] = np.inf
    nearest = distance == distance.min(1, keepdims=True)
    alike = own[:, None] // len(x) == own // len(x)
    return float(((nearest & alike).sum(1) / nearest.sum(1)).mean())


def embed(
    groups: Mapping[Hashable, np.ndarray],
    perplexity: float = 8,
    iterations: int = 5000,
    seed: int = 0,
    advance: Callable[[], None] = lambda: None,
) -> dict[Hashable, np.ndarray]:
    """One t-SNE (van der Maaten & Hinton 2008, by openTSNE) of all groups together.

    Neighbours are exact and in all D dimensions, where the numbers of a panel are computed too: a
    PCA before, which is common, takes longer than it saves at some thousand points. The same input
    gives the same picture, bit for bit, on one machine.

    Args:
      groups: name -> (N_i, D), one row an utterance: features flattened, frames that do not exist
        zero. Rows may repeat.
      iterations: in all; the first 250, or about a quarter if that is less, exaggerate.
      advance: told of each 50 iterations, `iterations // 50` times in all.

    Returns:
      name -> (N_i, 2).

    Raises:
      UserError: groups that do not fit together, or fewer than 3 perplexity + 1 points.
    """
    tables = [_table(name, rows) for name, rows in groups.items()]
    if len({rows.shape[1] for rows in tables}) != 1:
        shapes = ", ".join(str(rows.shape) for rows in tables) or "none"
        raise UserError(f"groups {shapes} given; allowed: (N, D) with one D, at least one group")
    rows = np.concatenate(tables)
    if not 1 <= 3 * perplexity <= len(rows) - 1:  # t-SNE weighs 3 perplexity neighbours a point
        allowed = f"1/3 to {(len(rows) - 1) / 3:.3g}, a third of the other points"
        raise UserError(f"perplexity {perplexity:g} for {len(rows)} points; allowed: {allowed}")
    early = min(250, iterations // (4 * STRIDE) * STRIDE)  # whole strides: none goes unreported
    tsne = TSNE(
        perplexity=perplexity,
        early_exaggeration_iter=early,
        n_iter=iterations - early,
        # Principal axes keep far groups apart; one dimension or one point does not have two.
        initialization="pca" if rows.shape[1] > 1 and np.ptp(rows, 0).any() else "random",
        neighbors="exact",  # the default approximates from 1,000 points on
        negative_gradient_method="bh",  # "fft" is for far more points
        n_jobs=1,  # threads wait for each other: slower than one where cores are shared
        callbacks=lambda *_: advance(),
        callbacks_every_iters=STRIDE,
        random_state=seed,
    )
    ends = np.cumsum([len(rows) for rows in tables])[:-1]
    return dict(zip(groups, np.split(np.array(tsne.fit(rows)), ends), strict=True))


class Panel(NamedTuple):
    """One picture of a grid."""

    row: str  # equal names share a row, which is named at its left
    column: str  # equal names share a column
    title: str  # such as "DDIM 30"
    points: Mapping[tuple[str, str], np.ndarray]  # (modality, OBSERVED | TRUE | DRAWN) -> (N, 2)
    numbers: Mapping[str, tuple[float, float]]  # modality -> energy distance, two-sample accuracy


def _marks(kind: str, hues: tuple[str, str]) -> dict:
    """How points of a kind are drawn: the drawn ones on top, the observed ones behind."""
    return {
        OBSERVED: {"marker": "o", "ms": 1.8, "mfc": BACKGROUND, "mew": 0, "zorder": 1},
        TRUE: {"marker": "o", "ms": 3.6, "mfc": hues[0], "mec": "white", "mew": 0.2, "zorder": 2},
        DRAWN: {"marker": "x", "ms": 2.4, "mec": hues[1], "mew": 0.6, "zorder": 3},
    }[kind] | {"ls": ""}


def _draw(ax: Axes, panel: Panel, hues: Mapping[str, tuple[str, str]]) -> None:
    title = {"loc": "left", "fontsize": 10.5, "color": INK, "fontweight": "bold"}
    ax.set_title(panel.title, pad=5 + LINE * len(panel.numbers), **title)
    for i, (modality, (energy, accuracy)) in enumerate([*panel.numbers.items()][::-1]):
        text = f"{modality}  energy {energy:.3f}  1-NN {accuracy:.2f}"
        place = {"xycoords": "axes fraction", "textcoords": "offset points", "fontsize": 8.5}
        ax.annotate(text, (0, 1), (0, 4 + LINE * i), color=hues[modality][1], **place)
    for (modality, kind), points in panel.points.items():
        ax.plot(*points.T, **_marks(kind, hues[modality]))
    ax.set_aspect("equal", adjustable="datalim")  # t-SNE has distances but no axes
    ax.spines[:].set(visible=True, color=RULE)


def pictures(panels: Sequence[Panel], modalities: Sequence[str]) -> Figure:
    """A grid of panels with one legend; places without a panel stay empty.

    Args:
      panels: rows and columns stand in the order in which they come; four columns fill a page.
      modalities: all of them, in one order for every figure: the place decides the hue.
    """
    rows, columns = ([*dict.fromkeys(p[i] for p in panels)] for i in (0, 1))
    hues = {name: HUES[i % len(HUES)] for i, name in enumerate(modalities)}
    size = (max(2.5 * len(columns) + 0.3, 5.3), 3.05 * len(rows) + 0.8)
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    figure.get_layout_engine().set(h_pad=0.09)
    grid = figure.subplots(len(rows), len(columns), squeeze=False)
    for ax in grid.ravel():
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set(visible=False)
    for ax, row in zip(grid[:, 0], rows, strict=True):
        ax.set_ylabel(brief(row, 34), fontsize=10.5, color=INK, fontweight="bold")
    for panel in panels:
        _draw(grid[rows.index(panel.row), columns.index(panel.column)], panel, hues)
    shown = dict.fromkeys(key for panel in panels for key in panel.points)
    handles = [Line2D([], [], label=f"{m}, {kind}", **_marks(kind, hues[m])) for m, kind in shown]
    legend = {"loc": "outside lower center", "frameon": False, "fontsize": 9, "markerscale": 2}
    legend |= {"ncols": min(len(handles), int(size[0] / 1.9)), "title": NOTE}
    figure.legend(handles=handles, **legend).get_title().set(fontsize=8.5, color=QUIET)
    return figure
