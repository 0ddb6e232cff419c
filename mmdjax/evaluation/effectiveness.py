"""Pictures of what systems complete from one observed modality (thesis 6.5.2, figures 6.1 to 6.4).

Drawn and true features stand side by side: t-SNE, and the numbers that go with it. A method needs
no more for it than its `truth` and its `compared`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from openTSNE import TSNE
from scipy.spatial.distance import cdist

from mmdjax.config import Comparison
from mmdjax.data.missing.patterns import pattern_name
from mmdjax.data.stored import is_stored
from mmdjax.errors import UserError
from mmdjax.evaluation.figures import INK, QUIET, RULE, brief
from mmdjax.evaluation.pages import Block
from mmdjax.methods.method import Method
from mmdjax.metrics import energy_distance
from mmdjax.types import Observed

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
PICTURE_STREAM = 400  # of a seed's randomness
MOST_ROWS = 6  # systems of one figure
CAPTION = (
    "t-SNE of test utterances of which one modality is observed: true (circles) and completed "
    "(crosses) values of the others, one draw an utterance, first seed. Distances between clusters "
    "mean little; the numbers compare the laws in all dimensions."
)


def steps(comparison: Comparison, modalities: Sequence[str]) -> int:
    """Return how often `embedded` calls `advance`."""
    return len(modalities) * (comparison.iterations // STRIDE)


def embedded(
    method: Method,
    params: Mapping[str, Any],
    seed: int,
    comparison: Comparison,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, dict]:
    """Make one t-SNE for each modality that alone is observed.

    Each holds the observed modality, the true values of the others and one completion of them, in
    the space in which the method's completions are compared.

    Args:
      method: of `mmdjax.methods`, with a truth. params: phase -> its parameters.
      comparison: `mmdjax.config.Comparison`.
      advance: called after each 50 iterations.

    Returns:
      Pattern -> {'points': [[modality, kind, (N, 2) as lists]], 'numbers': {modality: [energy
      distance, nearest-neighbour two-sample accuracy]}}; {} for a method without a truth, and where
      too few utterances have all modalities.
    """
    test = method.dataset.splits["test"]
    names, present = method.modalities, test.present
    whole = np.flatnonzero(present.all(1))  # what is drawn stands beside its truth
    count = min(comparison.pictures, len(whole))
    points = count * (2 * len(names) - 1)
    if len(whole) < len(present) and (count < 2 or points <= 3 * comparison.perplexity):
        return {}
    rng = np.random.default_rng([seed, PICTURE_STREAM])
    rows = np.sort(rng.choice(whole, count, replace=False))
    part = {"rows": rows} if is_stored(test) else {}
    truth = method.truth(params, "test", **part)
    if truth is None:
        return {}
    patterns = np.eye(len(names), dtype=bool)
    key = jax.random.fold_in(jax.random.key(seed), PICTURE_STREAM)
    observed = Observed.of_patterns(patterns, present[rows] if part else present)
    completion = method.complete(params, "test", observed, 1, key, "draws for pictures", **part)
    rows = np.arange(count) if part else rows
    true, completed = [], []  # of each modality: (N, T C), and (Q, N, T C)
    for m, (x, frames) in enumerate(truth):
        exists = frames[rows][..., None]
        drawn = np.asarray(method.compared(params, completion, m))[:, rows, 0]
        true.append(np.where(exists, x[rows], 0.0).reshape(count, -1))
        completed.append(np.where(exists, drawn, 0.0).reshape(len(patterns), count, -1))
    width = max(x.shape[1] for x in true)  # zeros beside a narrow modality change no distance
    result = {}
    for q, pattern in enumerate(patterns):
        groups, numbers = {}, {}
        for m, name in enumerate(names):
            if pattern[m]:
                groups[name, OBSERVED] = _wide(true[m], width)
                continue
            pair = completed[m][q], true[m]
            groups[name, TRUE], groups[name, DRAWN] = (_wide(x, width) for x in pair[::-1])
            numbers[name] = [energy_distance(*pair), two_sample_accuracy(*pair, paired=True)]
        embedding = embed(groups, comparison.perplexity, comparison.iterations, seed, advance)
        result[pattern_name(pattern, names)] = {
            "points": [[*group, np.round(xy, 3).tolist()] for group, xy in embedding.items()],
            "numbers": numbers,
        }
    return result


def _wide(x: np.ndarray, width: int) -> np.ndarray:
    return np.pad(x, ((0, 0), (0, width - x.shape[1])))


def sections(
    points: Mapping[str, Mapping[str, dict]], modalities: Sequence[str]
) -> tuple[list[tuple[str, list[Block]]], dict[str, tuple[Figure, str]]]:
    """Return a section with a row of pictures for each system, and its figures by name.

    Args:
      points: system -> what `embedded` returned.
    """
    figures, systems = {}, []
    for name, pictured in points.items():  # systems that differ in K alone have the same draws
        if pictured and not any(pictured == points[other] for other in systems):
            systems.append(name)
    for start in range(0, len(systems), MOST_ROWS):
        panels = {
            (name, pattern): Panel(
                {(m, kind): np.array(xy) for m, kind, xy in embedding["points"]},
                {m: tuple(pair) for m, pair in embedding["numbers"].items()},
            )
            for name in systems[start : start + MOST_ROWS]
            for pattern, embedding in points[name].items()
        }
        figures[f"tsne_{start // MOST_ROWS + 1}"] = (pictures(panels, modalities), CAPTION)
    blocks = [("figure", name, caption) for name, (_, caption) in figures.items()]
    return ([("Completed and true features", blocks)] if blocks else []), figures


def _table(name: Hashable, rows: np.ndarray) -> np.ndarray:
    rows = np.asarray(rows, np.float64)
    if rows.ndim != 2 or not rows.size or not np.isfinite(rows).all():
        raise UserError(f"{name!r} {rows.shape} given; allowed: (N, D) of finite numbers")
    return rows


def two_sample_accuracy(x: np.ndarray, y: np.ndarray, paired: bool = False) -> float:
    """Return the leave-one-out accuracy of the nearest neighbour at telling x from y.

    A classifier two-sample test (Lopez-Paz & Oquab 2017).

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
    rows, index = np.concatenate([x, y]), np.arange(2 * len(x))
    # Not by a matrix product: its rounding would part copies, which must tie.
    distance = cdist(rows, rows)
    distance[index, index] = np.inf
    if paired:
        distance[index, np.roll(index, len(x))] = np.inf
    nearest = distance == distance.min(1, keepdims=True)
    alike = index[:, None] // len(x) == index // len(x)
    return float(((nearest & alike).sum(1) / nearest.sum(1)).mean())


def embed(
    groups: Mapping[Hashable, np.ndarray],
    perplexity: float = 8,
    iterations: int = 5000,
    seed: int = 0,
    advance: Callable[[], None] = lambda: None,
) -> dict[Hashable, np.ndarray]:
    """Make one t-SNE (van der Maaten & Hinton 2008, by openTSNE) of all groups together.

    Neighbours are exact and in all D dimensions, where the numbers of a panel are computed too: a
    PCA before, which is common, takes longer than it saves at some thousand points. The same input
    gives the same picture, bit for bit, on one machine.

    Args:
      groups: name -> (N_i, D), one row an utterance: features flattened, frames that do not exist
        zero. Rows may repeat.
      iterations: in all; the first 250, or about a quarter if that is less, exaggerate.
      advance: called after each 50 iterations, `iterations // 50` times in all.

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

    points: Mapping[tuple[str, str], np.ndarray]  # (modality, OBSERVED | TRUE | DRAWN) -> (N, 2)
    numbers: Mapping[str, tuple[float, float]]  # modality -> energy distance, two-sample accuracy


def _marks(kind: str, hues: tuple[str, str]) -> dict:
    """Return the style of points of a kind: drawn ones lie on top, observed ones behind."""
    return {
        OBSERVED: {"marker": "o", "ms": 1.8, "mfc": BACKGROUND, "mew": 0, "zorder": 1},
        TRUE: {"marker": "o", "ms": 3.6, "mfc": hues[0], "mec": "white", "mew": 0.2, "zorder": 2},
        DRAWN: {"marker": "x", "ms": 2.4, "mec": hues[1], "mew": 0.6, "zorder": 3},
    }[kind] | {"ls": ""}


def _draw(ax: Axes, title: str, panel: Panel, hues: Mapping[str, tuple[str, str]]) -> None:
    style = {"loc": "left", "fontsize": 10.5, "color": INK, "fontweight": "bold"}
    ax.set_title(title, pad=5 + LINE * len(panel.numbers), **style)
    for i, (modality, (energy, accuracy)) in enumerate([*panel.numbers.items()][::-1]):
        text = f"{modality}  energy {energy:.3f}  1-NN {accuracy:.2f}"
        place = {"xycoords": "axes fraction", "textcoords": "offset points", "fontsize": 8.5}
        ax.annotate(text, (0, 1), (0, 4 + LINE * i), color=hues[modality][1], **place)
    for (modality, kind), points in panel.points.items():
        ax.plot(*points.T, **_marks(kind, hues[modality]))
    ax.set_aspect("equal", adjustable="datalim")  # t-SNE has distances but no axes
    ax.spines[:].set(visible=True, color=RULE)


def pictures(panels: Mapping[tuple[str, str], Panel], modalities: Sequence[str]) -> Figure:
    """Return a grid of panels with one legend; places without a panel stay empty.

    Args:
      panels: (row, observed pattern) -> panel, in the order of rows and columns; four columns fill
        a page.
      modalities: all of them, in one order for every figure: the place decides the hue.
    """
    rows, columns = ([*dict.fromkeys(place[i] for place in panels)] for i in (0, 1))
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
    for (row, column), panel in panels.items():
        ax = grid[rows.index(row), columns.index(column)]
        _draw(ax, f"observed: {column}", panel, hues)
    shown = dict.fromkeys(key for panel in panels.values() for key in panel.points)
    handles = [Line2D([], [], label=f"{m}, {kind}", **_marks(kind, hues[m])) for m, kind in shown]
    legend = {"loc": "outside lower center", "frameon": False, "fontsize": 9, "markerscale": 2}
    legend |= {"ncols": min(len(handles), int(size[0] / 1.9)), "title": NOTE}
    figure.legend(handles=handles, **legend).get_title().set(fontsize=8.5, color=QUIET)
    return figure
