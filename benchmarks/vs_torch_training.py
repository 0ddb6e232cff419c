"""A training step of every phase in mmdjax and in PyTorch, and the time to a validation loss.

Command: python -m benchmarks.vs_torch_training --workdir=DIR [--config=configs/NAME.py] [--smoke]
    [--rounds=5] [--phases=classifier,score,draws,imder] [--batches=32,128] [--frames=12,24,48]
    [--compiled=largest] [--quality] [--loss=L] [--config.x.y=v]

Phases: the classifier of complete data (encoders and MulT), the score networks, stage 2 (decoders
and MulT on completed sets), and IMDer's one stage, which draws in every step. The twin
(`training_twin.py`, `training_phases.py`) has the same layers, shapes, dropout, loss, clipping and
AdamW; tests put mmdjax's weights into it and compare losses and gradients. By default the networks
are those of configs/mosi_fast.py, and arrays are made up in the shapes of its data, so that no file
is needed.

Every side is a process of its own for every case, PyTorch with glibc's malloc thresholds raised,
eager and under `torch.compile`: on a CPU of the layers that a phase repeats, on a GPU of the whole
phase, with CUDA graphs. All start with empty caches of compiled programs: compiling is the first
turn of steps, less a later one. Sides take turns; milliseconds are medians. Operations are those of
matrix products and convolutions, forward and backward, counted as PyTorch runs the twin, attention
as plain products; the ceiling is the best square product of any side. Memory is the most that the
process holds while it trains, less what it held with all libraries imported.

--compiled: cases of which `torch.compile` is measured: all, `largest` (the first batch size at the
most frames; the default) or none. --quality: seconds from the start of a process with an empty
cache until the classifier's validation loss is --loss, see `training_quality.py`. Needs the extra
`bench`. Writes vs_torch_training.json, .md and .png; cases that DIR/parts holds are not measured
again. Nearly all of its time is compiling.
"""

from __future__ import annotations

import functools
import os
import re
import sys
import tempfile
import time

from absl import flags
from matplotlib.figure import Figure

from benchmarks import common
from benchmarks.sides import ALL, MALLOC, ONE, SEVERAL, SIDES, TORCH, Side
from mmdjax import main as command
from mmdjax.errors import require

TITLES = {
    "classifier": "classifier of complete data",
    "score": "score networks",
    "draws": "stage 2",
    "imder": "IMDer's one stage",
}
CHANNELS = {"language": 384, "acoustic": 73, "timing": 5}  # of an `aligned_50.pkl`
SMALL = {
    "fusion": {"layers": 1, "heads": 2},
    "latents": {"frames": 8, "channels": 8},
    "score": {"width": 16, "layers": 2, "heads": 2, "mlp": 16, "time_features": 8},
    "decoder": {"channels": 8, "blocks": 1, "reduction": 4},
}
COMPILED = ("all", "largest", "none")
_SMOKE = flags.DEFINE_bool("smoke", False, "One phase, small, without torch.compile.")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Turns of every side.", lower_bound=1)
_PHASES = flags.DEFINE_list("phases", list(TITLES), "Phases.")
_BATCHES = flags.DEFINE_list("batches", ["32", "128"], "Samples a step.")
_FRAMES = flags.DEFINE_list("frames", [], "Latent frames; by default the config's length buckets.")
_COMPILED = flags.DEFINE_enum("compiled", "largest", COMPILED, "Cases of torch.compile.")
_QUALITY = flags.DEFINE_bool("quality", False, "Measure the time to a validation loss, too.")
_LOSS = flags.DEFINE_float("loss", 0.0, "That loss; 0: three quarters of the median's error.")


def cases(config: dict, shapes: dict, phases, batches, frames, compiled: str, gpu: bool) -> list:
    """Return groups of cases that take turns: a phase, a batch size and a length each.

    Args:
      config: plain. gpu: where malloc and a CPU's devices play no part.
    """
    groups = []
    for phase in phases:
        for batch in batches:
            for length in frames:
                about = {"form": "training", "phase": phase, "config": config, "shapes": shapes}
                about |= {"batch": batch, "frames": length, "dtype": "tf32" if gpu else "float32"}
                torch = TORCH if gpu else MALLOC
                sides = [(torch, "eager"), (ONE, "mmdjax")]
                if not gpu and compiled != "none":
                    sides.append((ALL, "mmdjax"))
                largest = (batch, length) == (batches[0], max(frames))
                if compiled == "all" or (compiled == "largest" and largest):
                    sides.insert(1, (torch, "compile"))
                groups.append([about | {"side": s, "library": form} for s, form in sides])
    return groups


def measure(listed: list[dict], rounds: int) -> list[dict]:
    """Return a row for each case of a group."""
    from benchmarks.training_cases import steps_a_turn

    with tempfile.TemporaryDirectory() as folder:
        sides, built, ceilings = [], [], []
        for number, c in enumerate(listed):
            caches = {"MMDJAX_CACHE": f"{folder}/{number}"}
            caches |= {"TORCHINDUCTOR_CACHE_DIR": f"{folder}/{number}/inductor"}
            sides.append(Side(SIDES[c["side"]] | caches))
            built.append(sides[-1].ask(do="build", name="", case=c))
        most = [0] * len(listed)

        def runner(number: int):
            def run() -> float:
                answer = sides[number].ask(do="run", name="")
                most[number] = max(most[number], answer["most"])
                time.sleep(0.2)  # threads of the last side stop spinning
                return answer["seconds"] / steps_a_turn(listed[number])

            return run

        runs = {number: runner(number) for number in range(len(listed))}
        seconds = common.alternate(runs, rounds)
        operations = sides[0].ask(do="operations", case=listed[0])["operations"]
        for side, c in zip(sides, listed, strict=True):
            ceilings.append(side.ask(do="ceiling", case=c)["rate"])
            side.close()
    rows = []
    for number, c in enumerate(listed):
        row = {"group": title_of(c), "name": name_of(c)}
        row |= {key: c[key] for key in ("phase", "batch", "frames", "dtype")}
        row |= common.quartiles(seconds[number])
        rate = operations / row["seconds"]
        first = built[number]["first_call"] - steps_a_turn(c) * row["seconds"]
        row |= {
            "operations": operations,
            "gflops": rate / 1e9,
            "ceiling_gflops": max(ceilings) / 1e9,
        }
        row |= {"share_of_ceiling": rate / max(ceilings), "examples": c["batch"] / row["seconds"]}
        row |= {
            "compiling": max(0.0, first),
            "peak_bytes": max(0, most[number] - built[number]["before"]),
        }
        rows.append(row)
        print("{group} | {name}: {seconds:.4f} s a step".format(**row), flush=True)
    return rows


def title_of(c: dict) -> str:
    """Return the title of a group."""
    return f"{TITLES[c['phase']]}, batch {c['batch']}, {c['frames']} frames"


def name_of(c: dict) -> str:
    """Return the name of a side in tables."""
    return c["side"] if c["library"] == "mmdjax" else f"{c['side']}, {c['library']}"


def sections(rows: list[dict]) -> list:
    """Return a table for each group."""
    header = ["", "ms a step", "quartiles", "examples a second", "GFLOP/s", "share of ceiling"]
    header += ["times faster than the first", "compiling (s)", "peak (MB)"]
    made = []
    for group in dict.fromkeys(r["group"] for r in rows):
        part = [r for r in rows if r["group"] == group]
        body = [
            [
                r["name"],
                f"{1e3 * r['seconds']:.1f}",
                "–".join(f"{1e3 * q:.1f}" for q in r["quartiles"]),
                f"{r['examples']:.0f}",
                f"{r['gflops']:.1f}",
                f"{100 * r['share_of_ceiling']:.0f} %",
                f"{part[0]['seconds'] / r['seconds']:.2f}",
                f"{r['compiling']:.1f}",
                f"{r['peak_bytes'] / 1e6:.0f}",
            ]
            for r in part
        ]
        made.append((f"{group} ({part[0]['operations'] / 1e9:.1f} GFLOP)", header, body))
    return made


def quality_table(rows: list[dict]) -> tuple:
    """Return the table of the times to a validation loss."""
    header = ["", "validation loss", "epochs", "seconds", "of them before the first epoch's end"]
    body = [
        [
            r["name"],
            f"{r['loss']:.4f}" + ("" if r["reached"] else ", not reached"),
            str(r["epochs"]),
            f"{r['seconds']:.1f}",
            f"{r['first_epoch']:.1f}",
        ]
        for r in rows
    ]
    return f"From nothing to a validation loss of {rows[0]['wanted']:.4f}", header, body


def chart(rows: list[dict]) -> Figure:
    """Return milliseconds a step of every group, PyTorch grey and mmdjax blue."""
    groups = list(dict.fromkeys(r["group"] for r in rows))
    figure = Figure(figsize=(9, 0.5 + 0.28 * (len(rows) + len(groups))), layout="constrained")
    axes, place, labels = figure.subplots(), 0, []
    for group in groups:
        labels.append((place, group))
        for r in (r for r in rows if r["group"] == group):
            place += 1
            labels.append((place, r["name"]))
            colour = "#0b5cad" if r["name"].startswith("mmdjax") else "#b0b0b0"
            axes.barh(place, 1e3 * r["seconds"], color=colour)
            axes.text(1e3 * r["seconds"], place, f" {1e3 * r['seconds']:.1f}", va="center", size=8)
        place += 1
    axes.set_yticks([y for y, _ in labels], [text for _, text in labels], fontsize=8)
    axes.set(xscale="log", xlabel="milliseconds a step (median)")
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return figure


def main(argv: list[str]) -> None:
    """See above."""
    config, workdir = command.configured()
    from benchmarks import training_quality
    from mmdjax.config import from_dict, to_dict
    from mmdjax.runtime.machine import machine
    from mmdjax.workdir import claim

    values, smoke = to_dict(config), _SMOKE.value
    if smoke:
        values |= {group: values[group] | sizes for group, sizes in SMALL.items()}
        values["data"] |= {"length_buckets": (8,)}
        os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0"  # nearly all is compiling
    from_dict(values)
    length = values["latents"]["frames"] + 2  # what the encoders' convolution takes as it is
    shapes = {m: (length, channels) for m, channels in CHANNELS.items()}
    frames = [int(n) for n in _FRAMES.value] or list(values["data"]["length_buckets"])
    batches = [4] if smoke else [int(n) for n in _BATCHES.value]
    phases = ["score"] if smoke else _PHASES.value
    for phase in phases:
        require(phase in TITLES, f"--phases has {phase!r}", ", ".join(TITLES))
    asked = {"config": values, "smoke": smoke, "rounds": _ROUNDS.value}
    claim(workdir, asked)
    compiled = "none" if smoke else _COMPILED.value
    rows, gpu = [], common.torch_on_gpu()
    for group in cases(values, shapes, phases, batches, frames, compiled, gpu):
        name = re.sub("[^a-z0-9]+", "_", title_of(group[0]).lower())
        path = workdir / "parts" / f"{name}_{len(group)}.json"
        rows += common.kept(path, functools.partial(measure, group, 1 if smoke else _ROUNDS.value))
    quality = []
    if _QUALITY.value:
        quality = training_quality.measure(values, shapes, _LOSS.value, workdir, smoke)
    result = {
        "title": "Training in mmdjax and in PyTorch",
        "command": common.command_line("vs_torch_training"),
        "machine": machine() | common.versions("torch"),
        "config": values,
        "shapes": shapes,
        "rows": rows,
        "quality": quality,
    }
    parts = sections(rows) + ([quality_table(quality)] if quality else [])
    common.write(workdir, "vs_torch_training", result, parts, chart(rows))


if __name__ == "__main__":
    if not any(argument.startswith("--config=") for argument in sys.argv):
        sys.argv.insert(1, "--config=configs/mosi_fast.py")
    os.environ |= SEVERAL
    command.console(main)
