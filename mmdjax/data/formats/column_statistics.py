"""Statistics of a modality's columns, block by block: memory does not grow with the file."""

from __future__ import annotations

import numpy as np

SCALE = 1e3  # a column's deviation over the middle one that is worth a word
CORRELATION = 0.99  # with the label: a column that gives it away
_ENTRIES = 2**20  # numbers held at once
FEWEST = 10  # rows for a correlation that means something


class Columns:
    """Statistics of C columns over the frames that exist: `update` with each block, then
    `suspicious`."""

    def __init__(self, channels: int, labels: int) -> None:
        """labels: how many numbers a row's label has; 0 without labels. Correlations are those of
        the first of them, as many as `_ENTRIES` sums allow."""
        self.shape = labels, channels
        self._labels = min(labels, max(1, _ENTRIES // channels))
        self.frames = self.nan_frames = self.nans = 0
        self.count, self.infinite = np.zeros((2, channels), np.int64)
        self.least, self.most = np.full(channels, np.inf), np.full(channels, -np.inf)
        self._shift: np.ndarray | None = None
        self._sum, self._squares = np.zeros((2, channels))
        self._content = np.zeros(channels, np.uint64)
        self._draw = np.random.default_rng(0)
        # n, sums of x, of x x, of y, of y y and of x y over rows, by label and column
        self._joint = np.zeros((6, self._labels, channels))

    def update(self, frames: np.ndarray) -> None:
        """frames: (F, C), of as many rows as may be."""
        if not len(frames):
            return
        x = frames.astype(np.float64)
        # Columns are the same if their bits are, whatever the order of sums: a random odd weight
        # for each frame, modulo 2 ** 64.
        weights = self._draw.integers(2**63, size=(len(x), 1), dtype=np.uint64) * 2 + 1
        self._content += (x.view(np.uint64) * weights).sum(0, dtype=np.uint64)
        self.frames += len(x)
        bad, low, high = ~np.isfinite(x), x, x
        if bad.any():
            nan = np.isnan(x)
            self.nan_frames += int(nan.any(1).sum())
            self.nans += int(nan.sum())
            self.infinite += (bad & ~nan).sum(0)
            low, high = np.where(bad, np.inf, x), np.where(bad, -np.inf, x)
        self.least, self.most = (
            np.minimum(self.least, low.min(0)),
            np.maximum(self.most, high.max(0)),
        )
        known = (~bad).sum(0)
        with np.errstate(over="ignore", invalid="ignore"):
            if self._shift is None:  # keeps the sums of squares small
                self._shift = np.where(bad, 0, x).sum(0) / np.maximum(known, 1)
            x = np.where(bad, 0, x - self._shift)
            self.count += known
            self._sum += x.sum(0)
            self._squares += np.einsum("fc,fc->c", x, x)

    def update_labels(self, means: np.ndarray, label: np.ndarray) -> None:
        """means: (N, C) of each row's frames, NaN without; label: (N, L)."""
        step = max(1, _ENTRIES // (self._labels + self.shape[1]))
        for start in range(0, len(means), step):
            x, known_x = _finite(means[start : start + step])
            y, known_y = _finite(label[start : start + step, : self._labels])
            left = (known_y, known_y, known_y, y, y * y, y)
            right = (known_x, x, x * x, known_x, known_x, x)
            for i, (of_label, of_column) in enumerate(zip(left, right, strict=True)):
                self._joint[i] += of_label.T @ of_column

    def _correlation(self) -> np.ndarray:
        """Return (C,) the largest absolute correlation of a row's mean with its label's numbers."""
        n, x, xx, y, yy, xy = self._joint
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            spread_x, spread_y = xx - x * x / n, yy - y * y / n
            # what is left of sums that cancel is no spread
            real = (spread_x > 1e-9 * xx) & (spread_y > 1e-9 * yy) & (n >= FEWEST)
            r = np.abs((xy - x * y / n) / np.sqrt(spread_x * spread_y))
        r = np.where(real & np.isfinite(r), r, 0)
        return r.max(0) if len(r) else np.zeros(r.shape[1])

    def suspicious(self) -> dict[str, list]:
        """Return what is wrong -> columns, or [column, value] of them; only what there is.

        'constant', 'infinite' (how many entries), 'scale' (times the middle deviation),
        'identical' (to the first column with that content), 'label' (correlation).
        """
        constant = (self.count > 0) & (self.least == self.most)
        varied = ~constant & (self.count > 0)
        first: dict[int, int] = {}
        twins = [(c, first.setdefault(int(self._content[c]), c)) for c in np.flatnonzero(varied)]
        correlation = self._correlation()
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            variance = self._squares / self.count - (self._sum / self.count) ** 2
            deviation = np.sqrt(np.maximum(variance, 0))
            middle = np.median(deviation[varied]) if varied.any() else 0
            scale = deviation / middle if middle > 0 else np.zeros_like(deviation)
        columns = {
            "constant": np.flatnonzero(constant).tolist(),
            "infinite": _pairs(self.infinite > 0, self.infinite),
            "scale": _pairs(varied & (scale > SCALE), scale),
            "identical": [[int(c), int(twin)] for c, twin in twins if twin != c],
            "label": _pairs(correlation > CORRELATION, correlation),
        }
        return {kind: of_kind for kind, of_kind in columns.items() if of_kind}


def _finite(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return numbers whose square is one, 0 where there is none, and 1 where there is one."""
    known = np.isfinite(values)
    numbers = np.where(known, values, 0).astype(np.float64)
    return numbers.clip(-1e150, 1e150), known.astype(np.float64)


def _pairs(chosen: np.ndarray, values: np.ndarray) -> list[list]:
    return [[int(c), float(f"{values[c]:.4g}")] for c in np.flatnonzero(chosen)]
