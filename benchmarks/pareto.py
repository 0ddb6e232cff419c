"""The chart and tables of `nfe_latency.py`: its Pareto front, and latency as a line in NFE."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator


def joined(quality, latency) -> list[dict]:
    """Quality rows with the seconds of each batch beside them."""
    seconds = {(r["sampler"], r["nfe"], r["batch"]): r["seconds"] for r in latency}
    return [
        r | {f"seconds_{batch}": seconds[r["sampler"], r["nfe"], batch] for batch in BATCHES}
        for r in quality
    ]


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


BATCHES = (1, 32, 128)
METRICS = ("acc2_nonzero", "f1_nonzero", "acc7")
STUDENTS = ("energy", "progressive", "shortcut", "mean", "solver")
LEVELS = (0.96, 0.9, 0.84, 0.78)  # of the names of recipes, in parts of the height
FAMILIES = {
    "stochastic": ("#e07b39", "o"),
    "deterministic, one step": ("#2a78b8", "s"),
    "deterministic, multistep": ("#2f9e6e", "^"),
    "adaptive": ("#777777", "D"),
    "learned for few evaluations": ("#8e44ad", "P"),
}
STOCHASTIC = ("ancestral", "euler_maruyama", "heun_sde", "predictor_corrector", "sde_dpmpp_2m")
ONE_STEP = ("ddim", "dpmpp_1s", "heun")


def family(sampler: str) -> str:
    if sampler == "adaptive":
        return sampler
    if sampler in STUDENTS:
        return "learned for few evaluations"
    if sampler in STOCHASTIC:
        return "stochastic"
    return "deterministic, one step" if sampler in ONE_STEP else "deterministic, multistep"


def solved(rows, metric: str) -> float:
    """The metric of the network's own law: the median of deterministic samplers at most NFE."""
    most = max(r["nfe"] for r in rows if r["sampler"] != "adaptive")
    return float(
        np.median([r[metric] for r in rows if r["nfe"] == most and r["sampler"] not in STOCHASTIC])
    )


def chart(rows, recipes: dict[str, dict], utterances: int) -> Figure:
    """Two panels over latency at batch 32: energy distance, and ACC2.

    Args:
      utterances: of the test split, for the standard error of ACC2.
    """
    figure = Figure(figsize=(11.5, 5.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    final, accuracy = solved(rows, "energy_distance"), solved(rows, "acc2_nonzero")
    floor = 0.3 * final  # the unbiased estimate may fall below 0

    def energy(row):
        return max(row["energy_distance"], floor)

    def percent(row):
        return 100 * row["acc2_nonzero"]

    for axes, value in ((left, energy), (right, percent)):
        for name, (colour, marker) in FAMILIES.items():
            part = [r for r in rows if family(r["sampler"]) == name]
            x = [1e3 * r["seconds_32"] for r in part]
            y = [value(r) for r in part]
            size, alpha = (8, 0.9) if name.startswith("learned") else (5, 0.35)
            axes.plot(x, y, marker, color=colour, alpha=alpha, ms=size, mew=0, label=name)
        mark(axes, recipes, value)
        axes.set(xscale="log", xlabel="milliseconds to draw one missing modality for 32 utterances")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25, lw=0.5)
    dashed = {"color": "#1b1b1b", "lw": 1, "ls": "--"}
    best = front(rows, "seconds_32", "energy_distance", 1)
    x, y = [1e3 * r["seconds_32"] for r in best], [energy(r) for r in best]
    left.step(x, y, where="post", color="#1b1b1b", lw=1.3, label="best at this latency", zorder=2)
    left.axhline(final, **dashed, label="this network, solved exactly")
    left.set(yscale="log", ylim=(0.75 * min(map(energy, rows)), 12 * final))
    left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    left.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    left.yaxis.set_minor_locator(NullLocator())
    left.set_title("Energy distance of draws to the truth ↓", loc="left", fontsize=11.5)
    error = 100 * (accuracy * (1 - accuracy) / utterances) ** 0.5
    about = {"color": "#1b1b1b", "alpha": 0.08, "lw": 0, "label": "± one standard error of ACC2"}
    right.axhspan(100 * accuracy - error, 100 * accuracy + error, **about)
    right.axhline(100 * accuracy, **dashed)
    right.set_ylim(100 * accuracy - 4 * error, 100 * accuracy + 3 * error)
    right.set_title("ACC2 after fusion, % ↑", loc="left", fontsize=11.5)
    found = {}
    for axes in (left, right):
        handles, labels = axes.get_legend_handles_labels()
        found |= dict(zip(labels, handles, strict=True))
    where = {"loc": "outside lower center", "ncols": 4, "frameon": False, "fontsize": 9.5}
    figure.legend(found.values(), found, **where)
    return figure


def mark(axes, recipes: dict[str, dict], value) -> None:
    """Stars, with their names at the top of the axes, on levels that take turns."""
    ordered = sorted(recipes.items(), key=lambda item: item[1]["seconds_32"])
    star = {"ms": 16, "color": "#ffd23f", "mec": "#1b1b1b", "mew": 0.9, "zorder": 5}
    for index, (name, r) in enumerate(ordered):
        at = (1e3 * r["seconds_32"], value(r))
        axes.plot(*at, "*", **star, label="recipe" if index == 0 else None)
        axes.annotate(
            name,
            at,
            (at[0], LEVELS[index % len(LEVELS)]),
            textcoords=("data", "axes fraction"),
            ha="center",
            fontsize=9.5,
            weight="bold",
            bbox={"boxstyle": "round,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.75},
            arrowprops={"arrowstyle": "-", "color": "#1b1b1b", "lw": 0.7, "shrinkB": 6},
            zorder=6,
        )


def line(row: dict) -> list[str]:
    return [
        *(f"{1e3 * row[f'seconds_{batch}']:.2f}" for batch in BATCHES),
        f"{32 / row['seconds_32']:.0f}",
        f"{row['energy_distance']:.4f}",
        f"{row['rmse']:.3f}",
        *(f"{100 * row[metric]:.1f}" for metric in METRICS),
    ]


def sections(rows, recipes, latency) -> list:
    header = [*(f"ms, batch {b}" for b in BATCHES), "items/s at 32", "energy distance", "RMSE"]
    header += ["ACC2", "F1", "ACC7"]
    names = [[name, r["sampler"], str(r["nfe"]), *line(r)] for name, r in recipes.items()]
    best = front(rows, "seconds_32", "energy_distance", 1)
    pareto = [[r["sampler"], r["grid"], str(r["nfe"]), *line(r)] for r in best]
    every = [[r["sampler"], r["grid"], str(r["nfe"]), *line(r)] for r in rows]
    about = ["sampler", "intercept (ms)", "ms an evaluation", "median deviation"]
    about += ["temporary memory (MB), least to most", "first call (s)"]
    return [
        ("Recipes", ["recipe", "sampler", "NFE", *header], names),
        ("Best energy distance at each latency", ["sampler", "grid", "NFE", *header], pareto),
        ("Latency is linear in NFE, memory flat (batch 32)", about, linear(latency)),
        ("Everything", ["sampler", "grid", "NFE", *header], every),
    ]
