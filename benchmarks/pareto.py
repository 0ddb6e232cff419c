"""The chart of `nfe_latency.py`, its Pareto front, and the line through latency against NFE."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from benchmarks.accuracy_vs_nfe import STYLE


def front(rows, x: str, y: str, sign: int) -> list[dict]:
    """Rows that no quicker row beats: `sign` 1 where less of y is better, -1 where more is."""
    best, kept = np.inf, []
    for row in sorted(rows, key=lambda r: (r[x], sign * r[y])):
        if sign * row[y] < best:
            best = sign * row[y]
            kept.append(row)
    return kept


def linear(latency) -> list[list[str]]:
    """Seconds = intercept + slope NFE for every sampler, batch 32."""
    body = []
    for sampler in dict.fromkeys(r["sampler"] for r in latency):
        part = [r for r in latency if r["sampler"] == sampler and r["batch"] == 32]
        if len(part) < 3:
            continue
        x, y = np.array([r["nfe"] for r in part]), np.array([r["seconds"] for r in part])
        weights = 1 / y  # relative errors
        slope, start = np.polyfit(x, y, 1, w=weights)
        off = np.abs(slope * x + start - y) / y
        memory = [r["temporary_bytes"] for r in part if r["temporary_bytes"]]
        body.append(
            [
                sampler,
                f"{1e3 * start:.2f}",
                f"{1e3 * slope:.3f}",
                f"{100 * np.median(off):.0f} %",
                f"{min(memory) / 1e6:.1f}–{max(memory) / 1e6:.1f}" if memory else "",
                f"{np.median([r['first_call'] for r in part]):.2f}",
            ]
        )
    return body


def chart(rows, recipes: dict[str, dict]) -> Figure:
    """Two panels over latency at batch 32: energy distance, and ACC2."""
    figure = Figure(figsize=(12.5, 5.6), layout="constrained")
    panels = figure.subplots(1, 2)
    floor = 0.6 * min(
        (r["energy_distance"] for r in rows if r["energy_distance"] > 1e-3), default=1
    )
    for axes, metric, sign in zip(
        panels, ("energy_distance", "acc2_nonzero"), (1, -1), strict=True
    ):
        scale = 100 if sign < 0 else 1
        value = lambda r, m=metric, s=scale: max(s * r[m], floor)  # noqa: E731
        for sampler in dict.fromkeys(r["sampler"] for r in rows):
            part = [r for r in rows if r["sampler"] == sampler]
            colour, marker = STYLE.get(sampler, ("#bbbbbb", "x"))
            x, y = [1e3 * r["seconds_32"] for r in part], [value(r) for r in part]
            axes.plot(x, y, marker, color=colour, alpha=0.45, ms=4.5, mew=0, label=sampler)
        best = front(rows, "seconds_32", metric, sign)
        x, y = [1e3 * r["seconds_32"] for r in best], [value(r) for r in best]
        axes.step(
            x, y, where="post", color="#222222", lw=1.4, label="best at this latency", zorder=1
        )
        for index, (name, r) in enumerate(recipes.items()):
            at = (1e3 * r["seconds_32"], value(r))
            axes.plot(*at, "*", ms=17, color="#ffcc00", mec="#222222", mew=0.9, zorder=5)
            up = 16 if index % 2 else -22
            axes.annotate(
                name,
                at,
                (0, up),
                textcoords="offset points",
                ha="center",
                fontsize=9.5,
                weight="bold",
                bbox={"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.8},
                zorder=6,
            )
        axes.set(xscale="log", xlabel="milliseconds to draw 32 (one missing modality)")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25, which="both", lw=0.5)
    panels[0].set(yscale="log")
    panels[0].set_title("Energy distance of draws to the truth (less is better)", loc="left")
    panels[1].set_title("ACC2 after fusion, % (more is better)", loc="left")
    shown = np.array([100 * r["acc2_nonzero"] for r in rows])
    low = np.quantile(shown, 0.1)
    panels[1].set_ylim(low - 0.25 * (shown.max() - low), shown.max() + 0.12 * (shown.max() - low))
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=9)
    return figure
