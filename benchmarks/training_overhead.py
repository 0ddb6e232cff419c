"""How much of training is spent in compiled steps, from a profile of the one training loop.

Command: python -m benchmarks.training_overhead --workdir=DIR [--smoke]
Time: a minute on two cores, with programs kept from an earlier start.

Trains the phases of `two_stage` and `zero_trained` with `configs/synthetic.py` and the loop that
users run (progress, checks for signals and feeding included), on more utterances so that the 20
profiled steps lie in one epoch.
Its steps are the smallest of all configs, so the loop around them weighs most. Busy is the union of
all intervals in which some thread (or stream of a GPU) runs operations of a compiled program.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from matplotlib.figure import Figure

from benchmarks import common
from mmdjax.evaluation.figures import INK, QUIET, RULE
from mmdjax.runtime.compilation import keep_programs
from mmdjax.runtime.progress import FIRST, STEPS

GOAL = 0.95
ROUNDS = 3
BUSY, IDLE = "#2a6fb0", "#f3ddd0"


def busy_intervals(trace: Path) -> np.ndarray:
    """(N, 2) seconds, sorted and disjoint, in which compiled operations ran.

    Args:
      trace: an .xplane.pb file.
    """
    spans = []
    for plane in jax.profiler.ProfileData.from_file(str(trace)).planes:
        device = plane.name.startswith("/device:")
        for line in plane.lines:
            # On a CPU, operations run on XLA's own threads, or on the caller's inside Execute.
            xla = device or "XLA" in line.name
            for event in line.events:
                if xla or event.name.startswith("ThunkExecutor::Execute"):
                    start = event.start_ns * 1e-9
                    spans.append((start, start + event.duration_ns * 1e-9))
    merged: list[list[float]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(end, merged[-1][1])
        else:
            merged.append([start, end])
    return np.array(merged)


def fraction(busy: np.ndarray) -> float:
    """Of the time from the first operation to the last one."""
    return float((busy[:, 1] - busy[:, 0]).sum() / (busy[-1, 1] - busy[0, 0]))


def settings():
    """Return `configs/synthetic.py` with an epoch a phase, in which the profiled steps lie."""
    config = common.config_of("synthetic")
    phases = ("classifier_training", "score_training", "stage2_training")
    short = {p: dataclasses.replace(getattr(config, p), epochs=1) for p in phases}
    utterances = (FIRST + STEPS + 2) * config.score_training.batch
    data = dataclasses.replace(config.data, train=utterances, valid=64, test=64)
    return dataclasses.replace(config, data=data, rounds=1, **short)


def measured(config, methods: Sequence[str], folder: Path) -> dict[str, np.ndarray]:
    """Train methods and return the busy intervals of every phase; what they share is trained once.

    Args:
      methods: names of `mmdjax.methods`.
    """
    from mmdjax.data import pipeline
    from mmdjax.methods.method import of_name
    from mmdjax.runtime.progress import Reporter
    from mmdjax.training.train import Known, train
    from mmdjax.workdir import Places

    dataset = pipeline.dataset(config.data, config.task)
    reporter, known = Reporter(profile=folder / "profile"), Known()
    place = Places(folder, dataset.content).phase(config, 0)
    for name in methods:
        train(of_name(name)(config, dataset, reporter), 0, place, known=known)
    traces = sorted((folder / "profile").rglob("*.xplane.pb"))
    names = {path.relative_to(folder / "profile").parts[0]: path for path in traces}
    return {name.removeprefix("seed_0_"): busy_intervals(path) for name, path in names.items()}


def picture(busy_of: dict[str, np.ndarray], rows: list[dict]) -> Figure:
    """A timeline of each phase: when compiled operations ran."""
    figure = Figure(figsize=(8.4, 0.9 + 0.62 * len(rows)), layout="constrained", facecolor="white")
    ax = figure.subplots()
    for place, row in enumerate(rows):
        busy = (busy_of[row["phase"]] - busy_of[row["phase"]][0, 0]) * 1e3
        ax.broken_barh([(0, busy[-1, 1])], (place - 0.3, 0.6), color=IDLE)
        ax.broken_barh([(a, b - a) for a, b in busy], (place - 0.3, 0.6), color=BUSY)
        text = f" {100 * row['busy']:.1f} %"
        ax.text(busy[-1, 1], place, text, va="center", color=INK, fontsize=9.5)
    ax.set_yticks(range(len(rows)), [row["phase"].replace("_", " ") for row in rows])
    ax.set_xlabel(f"milliseconds; {STEPS} steps", color=QUIET)
    ax.set_title("Compiled operations run (dark)", loc="left", color=INK, fontsize=11)
    ax.margins(x=0.12)
    ax.set_xlim(left=0)
    ax.invert_yaxis()
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.spines["bottom"].set_color(RULE)
    ax.tick_params(length=0, colors=INK)
    return figure


def main() -> None:
    options = common.parse(common.parser(__doc__))
    from mmdjax.runtime.machine import machine

    keep_programs()
    config = settings()
    methods = ("two_stage",) if options.smoke else ("two_stage", "zero_trained")
    runs = [
        measured(config, methods, options.workdir / f"round_{number}")
        for number in range(1 if options.smoke else ROUNDS)
    ]
    rows, shown = [], {}
    for phase in runs[0]:
        ordered = sorted((run[phase] for run in runs), key=fraction)
        shown[phase] = ordered[len(ordered) // 2]
        seconds = (shown[phase][-1, 1] - shown[phase][0, 0]) / STEPS
        each = [fraction(busy) for busy in ordered]
        rows.append({"phase": phase, "seconds": seconds, "busy": fraction(shown[phase])})
        rows[-1] |= {"least": each[0], "most": each[-1]}
    result = {
        "title": "Time spent in compiled steps",
        "command": common.command_line("training_overhead"),
        "machine": machine(),
        "goal": GOAL,
        "rows": rows,
    }
    header = ["phase", "ms a step", "busy (%), median", "least", "most"]
    body = [
        [r["phase"].replace("_", " "), f"{1e3 * r['seconds']:.2f}"]
        + [f"{100 * r[k]:.1f}" for k in ("busy", "least", "most")]
        for r in rows
    ]
    about = " ".join(__doc__.split("\n\n")[2].split())
    sections = [about, (f"{len(runs)} runs of {STEPS} steps", header, body)]
    common.write(options.workdir, "training_overhead", result, sections, picture(shown, rows))
    print((options.workdir / "training_overhead.md").read_text())


if __name__ == "__main__":
    sys.exit(main())
