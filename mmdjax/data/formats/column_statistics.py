"""Statistics of a modality's columns, block by block: memory does not grow with the file."""

from __future__ import annotations

import numpy as np

SCALE = 1e3  # a column's deviation over the middle one that is worth a word
CORRELATION = 0.99  # with the label: a column that gives it away
FEWEST = 10  # rows for a correlation that means something


class Columns:
    """Of C columns, over the frames that exist; `update` with each block, then `suspicious`."""

    def __init__(self, channels: int, labels: int):
        """labels: how many numbers a row's label has; 0 without labels."""
        zeros = np.zeros(channels)
        self.frames = self.nan_frames = self.nans = 0
        self.count, self.infinite = zeros.astype(np.int64), zeros.astype(np.int64)
        self.least, self.most = zeros + np.inf, zeros - np.inf
        self._shift: np.ndarray | None = None
        self._sum, self._squares = zeros.copy(), zeros.copy()
        self._content = zeros.astype(np.uint64)
        self._draw = np.random.default_rng(0)
        # n, sums of x, of x x, of y, of y y and of x y over rows, by label and column
        self._joint = np.zeros((6, labels, channels))

    def update(self, frames: np.ndarray) -> None:
        """frames: (F, C), of as many rows as may be."""
        if not len(frames):
            return
        x = frames.astype(np.float64)
        # Columns are the same if their bits are, whatever the order of sums: a random odd weight
        # for each frame, modulo 2 ** 64.
        weights = self._draw.integers(2**63, size=(len(x), 1), dtype=np.uint64) * 2 + 1
        self._content += (x.view(np.uint64) * weights).sum(0, dtype=np.uint64)
        bad = ~np.isfinite(x)
        self.frames += len(x)
        if bad.any():
            nan = np.isnan(x)
            self.nan_frames += int(nan.any(1).sum())
            self.nans += int(nan.sum())
            self.infinite += (bad & ~nan).sum(0)
            self.least = np.minimum(self.least, np.where(bad, np.inf, x).min(0))
            self.most = np.maximum(self.most, np.where(bad, -np.inf, x).max(0))
        else:
            self.least = np.minimum(self.least, x.min(0))
            self.most = np.maximum(self.most, x.max(0))
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
        x, y = means[:, None, :].astype(np.float64), label[:, :, None].astype(np.float64)
        known = np.isfinite(x) & np.isfinite(y)
        x, y = np.where(known, x, 0), np.where(known, y, 0)
        with np.errstate(over="ignore", invalid="ignore"):
            for i, term in enumerate((known, x, x * x, y, y * y, x * y)):
                self._joint[i] += term.sum(0)

    @property
    def deviation(self) -> np.ndarray:
        """(C,) standard deviation; NaN of a column without numbers."""
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = self._sum / self.count
            return np.sqrt(np.maximum(self._squares / self.count - mean**2, 0))

    def correlation(self) -> np.ndarray:
        """(C,) largest absolute correlation of a row's mean with a number of its label."""
        n, x, xx, y, yy, xy = self._joint
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            spread_x, spread_y = xx - x * x / n, yy - y * y / n
            # what is left of sums that cancel is no spread
            real = (spread_x > 1e-9 * xx) & (spread_y > 1e-9 * yy) & (n >= FEWEST)
            r = np.abs((xy - x * y / n) / np.sqrt(spread_x * spread_y))
        r = np.where(real & np.isfinite(r), r, 0)
        return r.max(0) if len(r) else np.zeros(r.shape[1])

    def suspicious(self) -> dict[str, list]:
        """What is wrong -> columns, or [column, value] of them; only what there is.

        'constant', 'infinite' (how many entries), 'scale' (times the middle deviation),
        'identical' (to the first column with that content), 'label' (correlation).
        """
        constant = (self.count > 0) & (self.least == self.most)
        found: dict[str, list] = {"constant": np.flatnonzero(constant).tolist()}
        found["infinite"] = _pairs(self.infinite > 0, self.infinite)
        varied = ~constant & (self.count > 0)
        deviation = self.deviation
        middle = np.median(deviation[varied]) if varied.any() else 0
        if middle > 0:
            with np.errstate(invalid="ignore", over="ignore"):
                found["scale"] = _pairs(varied & (deviation / middle > SCALE), deviation / middle)
        first: dict[int, int] = {}
        twins = []
        for column in np.flatnonzero(varied).tolist():
            twin = first.setdefault(int(self._content[column]), column)
            twins += [[column, twin]] if twin != column else []
        found["identical"] = twins
        r = self.correlation()
        found["label"] = _pairs(r > CORRELATION, r)
        return {what: columns for what, columns in found.items() if columns}


def _pairs(chosen: np.ndarray, values: np.ndarray) -> list[list]:
    return [[int(c), float(f"{values[c]:.4g}")] for c in np.flatnonzero(chosen)]
