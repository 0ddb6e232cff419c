"""A whole draw in mmdjax and in PyTorch: same network, weights, evaluations; then fewer of each.

Command: python -m benchmarks.vs_torch --workdir=DIR [--smoke] [--rounds=5]

One missing modality given two others, ScoreTransformer1D of the published size (256 wide, 6 layers,
48 frames), batch 32 and 1. Peers: our own PyTorch twin (`torch_twin.py`; same weights, outputs
compared at the start) in a Python loop, eager, with glibc's malloc thresholds raised, under
`torch.compile` (on a GPU with CUDA graphs), and under the schedulers of diffusers; and JAX as one
writes it first. mmdjax runs on one device and, on a CPU, on one virtual device a core.

Every side is a process of its own, since threads, malloc and devices are set at its start; only one
works at a time. Within a group cases alternate; seconds are medians. Weights are random: time does
not depend on them. Operations are those of the algorithm after the exact savings (`common.py`); the
ceiling is the best square matrix product of any side with these operands. Peak memory is what a
draw adds to the process at most. On a GPU, sides that differ in malloc or in a CPU's devices are
one, and float32 products are measured in full and as TF32. Needs the extra `bench`. Writes
vs_torch.json, .md and .png. About 20 minutes on two cores; groups that DIR/parts holds are not
measured again.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import re
import time

import numpy as np
from matplotlib.figure import Figure
from rich.progress import track

from benchmarks import common
from benchmarks.sides import SIDES, Side
from benchmarks.vs_torch_cases import SMOKE, cases, on_gpu
from mmdjax.errors import UserError


def measure(listed: list[dict], rounds: int) -> list[dict]:
    """Rows of one group of cases: they take turns, each side in its own process."""
    sides = {name: Side(SIDES[name]) for name in {c["side"] for c in listed}}
    rows, ceilings, group = [], {}, listed[0]["group"]
    for c in listed:
        key = (c["side"], c["dtype"])
        if key not in ceilings:
            answer = sides[c["side"]].ask(do="ceiling", case=c)
            ceilings[key], bandwidth = answer["rate"], answer["bandwidth"]
    part = {str(i): c for i, c in enumerate(listed)}
    built = {
        name: sides[c["side"]].ask(do="build", name=name, case=c)
        for name, c in track(part.items(), description=f"{group}: compiling")
    }
    peaks = dict.fromkeys(part, 0)

    def runner(name):
        def run() -> float:
            answer = sides[part[name]["side"]].ask(do="run", name=name)
            peaks[name] = max(peaks[name], answer["peak"])
            time.sleep(0.2)  # threads of the last side stop spinning
            return answer["seconds"]

        return run

    seconds = common.alternate({name: runner(name) for name in part}, rounds)
    for name, c in part.items():
        rows.append(row(c, seconds[name], built[name], peaks[name], ceilings))
        if c["form"] == "mmdjax" and c["batch"] > 1 and not group.startswith("Latency"):
            rows[-1]["bytes"] = sides[c["side"]].ask(do="traffic", case=c)["bytes"]
            rows[-1]["bandwidth"] = bandwidth
        print("{group} | {name} | {recipe} {network}: {seconds:.4f} s".format(**rows[-1]))
    for side in sides.values():
        side.close()
    return rows


def row(c: dict, seconds, built: dict, peak: int, ceilings: dict) -> dict:
    name = c["side"] if c["form"] in ("mmdjax", "eager") else f"{c['side']}, {c['form']}"
    if c["form"] == "naive":
        name = "JAX as first written"
    made = {
        "group": c["group"],
        "form": c["form"],
        "name": name,
        "recipe": c["recipe"],
        "network": c["network"],
    }
    made |= {key: c[key] for key in ("sampler", "nfe", "batch", "dtype")}
    made |= {"backend": "torch" if c["side"].startswith("PyTorch") else "jax"}
    made |= common.quartiles(seconds)
    sizes = c["score"] | {"channels": 32}
    work = c["batch"] * common.draw_operations(sizes, c["nfe"])
    ceiling = max(rate for (_, dtype), rate in ceilings.items() if dtype == c["dtype"])
    return made | {
        "operations": work,
        "gflops": work / made["seconds"] / 1e9,
        "ceiling_gflops": ceiling / 1e9,
        "share_of_ceiling": work / made["seconds"] / ceiling,
        "first_call": built["first"],
        "difference_to_flax": built["difference"],
        "peak_bytes": peak,
    }


def sections(rows: list[dict]) -> list:
    made = []
    for group in dict.fromkeys(r["group"] for r in rows):
        part = [r for r in rows if r["group"] == group]
        base = part[0]["seconds"]
        header = ["", "network", "recipe", "dtype", "seconds", "quartiles", "GFLOP/s"]
        header += ["share of ceiling", "times faster than the first", "peak (MB)"]
        body = [
            [
                r["name"],
                r["network"],
                r["recipe"],
                r["dtype"],
                f"{r['seconds']:.4f}",
                "{:.4f}–{:.4f}".format(*r["quartiles"]),
                f"{r['gflops']:.0f}",
                f"{100 * r['share_of_ceiling']:.0f} %",
                f"{base / r['seconds']:.2f}",
                f"{r['peak_bytes'] / 1e6:.0f}" if r["peak_bytes"] else "",
            ]
            for r in part
        ]
        made.append((group, header, body))
    made.append(roofline(rows))
    line = [r for r in rows if r["group"].startswith("Latency")]
    if line:
        slope, start = np.polyfit([r["nfe"] for r in line], [r["seconds"] for r in line], 1)
        made.append(
            f"Latency is {1000 * start:.0f} ms + {1000 * slope:.1f} ms for each evaluation "
            "(least squares over the last group; the first part holds the encoding)."
        )
    worst = max(r["difference_to_flax"] or 0 for r in rows)
    made.append(f"Largest difference between the twin and the flax network: {worst:.1e}.")
    return made


def roofline(rows: list[dict]) -> tuple:
    """Operations and bytes of every mmdjax case, the two bounds, and what was measured."""
    header = ["", "network", "recipe", "dtype", "GFLOP", "GB", "bound by operations (s)"]
    header += ["bound by bytes (s)", "measured (s)", "share of the greater bound"]
    body = []
    for r in rows:
        if "bytes" in r:
            bounds = r["operations"] / r["ceiling_gflops"] / 1e9, r["bytes"] / r["bandwidth"]
            body.append(
                [
                    r["name"],
                    r["network"],
                    r["recipe"],
                    r["dtype"],
                    f"{r['operations'] / 1e9:.0f}",
                    f"{r['bytes'] / 1e9:.1f}",
                    *(f"{b:.3f}" for b in bounds),
                    f"{r['seconds']:.3f}",
                    f"{100 * max(bounds) / r['seconds']:.0f} %",
                ]
            )
    return "Roofline of the mmdjax cases", header, body


def chart(rows: list[dict]) -> Figure:
    """Seconds a draw by group, PyTorch grey and mmdjax blue."""
    groups = list(dict.fromkeys(r["group"] for r in rows if not r["group"].startswith("Latency")))
    sizes = [sum(r["group"] == g for r in rows) for g in groups]
    figure = Figure(figsize=(9, 1.2 * len(groups) + 0.32 * sum(sizes)), layout="constrained")
    panels = figure.subplots(len(groups), 1, height_ratios=sizes, squeeze=False)[:, 0]
    for axes, group in zip(panels, groups, strict=True):
        part = [r for r in rows if r["group"] == group][::-1]
        colours = [
            "#0b5cad" if r["name"].startswith("mmdjax") else "#b0b0b0" if r["backend"] == "torch"
            else "#e69f00" for r in part
        ]  # fmt: skip
        labels = [f"{r['name']} · {r['network']} · {r['recipe']}" for r in part]
        labels = [f"{a} · bf16" if r["dtype"] == "bfloat16" else a
                  for a, r in zip(labels, part, strict=True)]  # fmt: skip
        bars = axes.barh(range(len(part)), [r["seconds"] for r in part], color=colours)
        first = part[-1]["seconds"]
        times = [f"{r['seconds']:.3g} s  ({first / r['seconds']:.1f}×)" for r in part]
        axes.bar_label(bars, times, padding=3, fontsize=8)
        axes.set_yticks(range(len(part)), labels, fontsize=8)
        axes.set_title(group, loc="left", fontsize=10)
        axes.margins(x=0.18)
        axes.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xlabel("seconds a draw (median)")
    return figure


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="timings of every case")
    options = common.parse(parser)
    listed = cases()
    if options.smoke:
        listed = [c | {"score": c["score"] | SMOKE} for c in listed if c["form"] != "compile"]
        listed = [c for c in listed if c["recipe"] in ("ddim 10", "fast-8")]
    listed = on_gpu(listed) if common.torch_on_gpu() else listed
    if importlib.util.find_spec("diffusers") is None:
        listed = [c for c in listed if c["form"] != "diffusers"]
    from mmdjax.runtime.machine import machine
    from mmdjax.workdir import claim

    rounds, rows = 1 if options.smoke else options.rounds, []
    try:
        claim(options.workdir, {"smoke": options.smoke, "rounds": rounds})
    except UserError as error:
        parser.error(str(error))
    for group in dict.fromkeys(c["group"] for c in listed):
        path = options.workdir / "parts" / f"{re.sub('[^a-z0-9]+', '_', group.lower())}.json"
        part = [c for c in listed if c["group"] == group]
        rows += common.kept(path, functools.partial(measure, part, rounds))
    for dtype in {r["dtype"] for r in rows}:  # the best of all groups, which may run on other days
        part = [r for r in rows if r["dtype"] == dtype]
        ceiling = max(r["ceiling_gflops"] for r in part)
        for r in part:
            share = r["gflops"] / ceiling
            r |= {"ceiling_gflops": ceiling, "share_of_ceiling": share}
    versions = common.versions("torch", "diffusers")
    result = {
        "title": "mmdjax against PyTorch",
        "command": common.command_line("vs_torch"),
        "machine": machine() | versions,
        "rows": rows,
    }
    common.write(options.workdir, "vs_torch", result, sections(rows), chart(rows))


if __name__ == "__main__":
    main()
