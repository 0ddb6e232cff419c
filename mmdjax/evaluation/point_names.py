"""Names of the points of a chart, beside them and clear of each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from mmdjax.evaluation.figures import INK, brief


def name_points(
    ax: Axes,
    points: Sequence[tuple[float, float]],
    names: Sequence[Sequence[str]],
    whiskers: Sequence[float],
) -> None:
    """Writes the names of each point, a line each, at the nearest place inside the axes that is
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
        written = "\n".join(brief(name, 34) for name in names[i])
        text = ax.annotate(written, points[i], (0, 0), textcoords="offset points", **style)
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
            about = {"xytext": (end - centres[i]) / unit, "textcoords": "offset points"}
            ax.annotate("", points[i], arrowprops=hair, **about)


def _overlap(boxes: np.ndarray, others: Sequence[np.ndarray]) -> float:
    """Area in common, of (left, bottom, right, top) each."""
    if not len(boxes) or not len(others):
        return 0.0
    boxes, others = boxes[:, None], np.array(others)
    size = np.minimum(boxes[..., 2:], others[:, 2:]) - np.maximum(boxes[..., :2], others[:, :2])
    return float(size.clip(0).prod(-1).sum())
