"""A training step against the number of devices: measured here, and on paper for a pod of 256.

Command: python -m benchmarks.scaling --workdir=DIR [--smoke] [--rounds=20] [--fraction=0.4]

Measured is one optimiser step of the three score networks, the largest phase of training, through
the project's own trainer on 1, 2, 4, 8 devices: all of them data parallel, or two sharing one copy
of the parameters (fsdp = 2). Strong scaling keeps the global batch, weak scaling the rows a device.
Devices are this machine's accelerators with networks of the published size, or eight virtual ones
of its CPU with small networks. Cases take turns, every timing waits; medians with quartiles.

Bytes exchanged are read from the compiled programs (`pod_model.exchanged`), those of the published
size too, which are compiled for eight devices and not run. The pod is computed, not measured:
formulas and sources are in `pod_model.py`; chips are taken to reach a `--fraction` of their peak.

Writes scaling.json, .md and .png; about five minutes on two cores.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys

import jax
import numpy as np

from benchmarks import common, networks, pod_model
from benchmarks.pod_model import BATCHES, POD, TARGET
from mmdjax import config as configs
from mmdjax.evaluation.figures import QUIET, blank, tidy
from mmdjax.methods.latent.losses import score_loss
from mmdjax.methods.latent.modules import Modules, build
from mmdjax.networks.score_networks import PUBLISHED
from mmdjax.runtime.compilation import keep_programs
from mmdjax.training.settings import MESH, Mesh
from mmdjax.training.step import make_trainer, where_of

SIZES = PUBLISHED["score_transformer"]
SMALL = {"width": 64, "layers": 4, "heads": 4, "mlp": 128, "time_features": 64}
VIRTUAL, GLOBAL = 8, 64  # devices of a CPU; rows of a step under strong scaling
ROWS = 32  # a device, in the programs that are compiled only
SHARED = 4096  # bytes from which a small network's parameters are: all but biases, as of large ones
HUES = dict(zip(pod_model.CHIPS, ("#6bb3ea", "#0b5cad", "#44aa99", "#c44e00"), strict=True))


def cases(devices: int, batch: int) -> list[tuple[int, int, int]]:
    """(data, fsdp, global batch) for powers of two up to `devices`, strong and weak; with all
    devices the two are the same."""
    found = set()
    for count in (2**k for k in range(devices.bit_length())):
        for fsdp in (1, 2)[:count]:
            for rows in (batch, batch // devices * count):
                found.add((count // fsdp, fsdp, rows))
    return sorted(found)


def modules(published: bool, smoke: bool) -> Modules:
    sizes = SIZES if published else networks.SMALL if smoke else SMALL
    latents = configs.Latents() if published else configs.Latents(frames=8 if smoke else 16)
    return build(configs.Config(latents=latents, score=configs.Score(**sizes)), networks.MODALITIES)


def trainer_of(own: Modules, data: int, fsdp: int, batch: int):
    """The trainer of a case, and what its step takes: state, batch, common, weight, where."""
    score = own.score
    shard_from = MESH.shard_from if score.width == SIZES["width"] else SHARED
    settings = dataclasses.replace(networks.TRAINING, batch=batch)
    trainer = make_trainer(score_loss(own), settings, 1000, Mesh(data, fsdp, shard_from))
    state = trainer.init(networks.random_parameters(score, score.modalities))
    shape = (batch, score.modalities, score.frames, score.channels)
    z = np.random.default_rng(0).standard_normal(shape, np.float32)
    rows = {"z": z, "valid": np.ones(shape[:3], bool)}
    rows, weight = trainer.placement.batch((rows, np.ones(batch, np.float32)))
    return trainer, (state, rows, {}, weight, where_of(jax.random.key(1), 0, 0))


def program(own: Modules, data: int, fsdp: int, batch: int) -> tuple[dict, object]:
    """A case's compiled step read, as JSON; and a call that returns the seconds of a step."""
    trainer, (state, *given) = trainer_of(own, data, fsdp, batch)
    frames, place = own.score.frames, trainer.placement
    compiled = trainer.step.jitted.lower(state, *given, frames=frames).compile()
    leaves = jax.tree.leaves(state.params)
    shared = sum(leaf.nbytes for leaf in leaves if place.of(leaf) != place.everywhere)
    copied = sum(leaf.nbytes for leaf in leaves) - shared
    row = {"data": data, "fsdp": fsdp, "devices": data * fsdp, "batch": batch}
    row |= {"exchanged": pod_model.exchanged(compiled.as_text())}
    row |= {"sent": sum(kind["sent"] for kind in row["exchanged"].values())}
    row |= {"predicted": sum(pod_model.sent_bytes(shared, copied, data, fsdp).values())}
    row |= {"held": compiled.memory_analysis().argument_size_in_bytes}
    # An accelerator is asked for the next step while it computes; a CPU's devices must not be.
    steps = 1 if jax.default_backend() == "cpu" else 10

    def run() -> None:
        nonlocal state
        for _ in range(steps):
            state = place.settled(trainer.step(state, *given, frames=frames))
        jax.block_until_ready(state)

    timed = common.stopwatch(run)
    return row, lambda: timed() / steps


def measured(rounds: int, smoke: bool) -> dict:
    """What the worker finds: rows of the cases, programs of the published size, its machine."""
    from mmdjax.runtime.machine import machine

    keep_programs(optimise=not smoke)  # of a smoke run nearly all is compiling
    real = jax.default_backend() != "cpu"
    devices = 2 if smoke else 2 ** (jax.device_count().bit_length() - 1)
    own, rows, calls = modules(real, smoke), {}, {}
    for case in cases(devices, max(GLOBAL, devices)):
        rows[case], calls[case] = program(own, *case)
        calls[case]()
    for case, seconds in common.alternate(calls, rounds).items():
        rows[case] |= common.quartiles(seconds)
    calls.clear()
    large = modules(True, smoke)
    pairs = () if smoke or devices < 2 else ((devices, 1), (devices // 2, 2), (1, devices))
    return {
        "real": real,
        "rows": list(rows.values()),
        "published": [program(large, *pair, ROWS * devices)[0] for pair in pairs],
        "sizes": SIZES if real else networks.SMALL if smoke else SMALL,
        "parameters": networks.parameters(large.score) * large.score.modalities,
        "machine": machine(),
    }


def ask_worker(rounds: int, smoke: bool) -> dict:
    """`measured` in a process of its own: devices are counted before JAX starts."""
    flag, given = "xla_force_host_platform_device_count", os.environ.get("XLA_FLAGS", "")
    flags = given if flag in given else f"{given} --{flag}={VIRTUAL}".strip()
    command = [sys.executable, "-m", "benchmarks.scaling", "--worker", "--workdir=."]
    command += [f"--rounds={rounds}", *(["--smoke"] if smoke else [])]
    environment = os.environ | {"XLA_FLAGS": flags}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"the process that measures ended with status {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def with_overhead(rows: list[dict], real: bool) -> list[dict]:
    """Rows with `strong` and `weak`: seconds a sample over those on one device. Virtual devices
    share the same cores, so 1 is ideal; of real ones n have n times the speed, and it is, too."""
    alone = {r["batch"]: r["seconds"] / r["batch"] for r in rows if r["devices"] == 1}
    large, small = max(alone), min(alone)
    found = []
    for row in rows:
        speed, each = row["devices"] if real else 1, row["seconds"] / row["batch"]
        strong = row["batch"] == large and {"strong": speed * each / alone[large]}
        weak = row["batch"] == small * row["devices"] and {"weak": speed * each / alone[small]}
        found.append(row | (strong or {}) | (weak or {}))
    return found


def _mesh(row: dict) -> str:
    return f"{row['data']} x {row['fsdp']}"


def time_table(rows: list[dict]) -> tuple:
    body = []
    for r in rows:
        low, high = (1e3 * s for s in r["quartiles"])
        over = [f"{r[kind]:.2f}" if kind in r else "" for kind in ("strong", "weak")]
        time = f"{1e3 * r['seconds']:.0f} ({low:.0f}–{high:.0f})"
        body.append([str(r["devices"]), _mesh(r), str(r["batch"]), time, *over])
    header = ["devices", "data x fsdp", "batch", "ms a step, median (quartiles)"]
    return "Measured", [*header, "strong: over one device", "weak: over one device"], body


def bytes_table(measured: dict) -> tuple:
    strong = [("measured", r) for r in measured["rows"] if "strong" in r and r["devices"] > 1]
    body = []
    for networks_, r in [*strong, *(("published", r) for r in measured["published"])]:
        kinds = [r["exchanged"].get(kind, {}) for kind in pod_model.KINDS]
        times = [f"{kind.get('times', 0):.0f}" for kind in kinds[:3]]
        sizes = [sum(kind.get("operands", 0) for kind in kinds), r["sent"], r["predicted"]]
        shown = [*(f"{size / 2**20:.2f}" for size in sizes), f"{r['held'] / 2**20:.1f}"]
        body.append([networks_, _mesh(r), str(r["batch"]), *times, *shown])
    header = ["networks", "data x fsdp", "batch", "all-reduces", "all-gathers", "reduce-scatters"]
    header += ["MiB of operands", "MiB sent", "MiB sent, predicted", "MiB of arguments"]
    return "Exchanged by one device in a step", header, body


def sections(measured: dict, work: pod_model.Work, rows: list[dict], fraction: float) -> list:
    ideal = "n devices are ideally n times as fast"
    if not measured["real"]:
        ideal = (
            "devices are virtual and share the same cores: this is what splitting a step costs, "
            "and nothing about the speed of more devices"
        )
    sizes = ", ".join(f"{k} {v}" for k, v in measured["sizes"].items())
    return [
        time_table(measured["rows"]),
        f"Three networks of {sizes}. `over one device`: seconds a sample over those of one device "
        "with the same global batch (strong) or as many rows a device (weak). 1 is ideal: "
        f"{ideal}. Below 1, one device does not keep all cores busy, or a step costs what its rows "
        "do not make up for: with few rows that weighs more, and weak scaling starts from few.",
        bytes_table(measured),
        "Read from the compiled programs, loops counted as often as they run; `published` ones are "
        "compiled for this mesh and not run. Operands are those of all collectives. Sent is what "
        "they make a device send by rings: 2 (n-1)/n of an all-reduced array, (n-1)/n of one that "
        "is gathered or scattered. Predicted: gradients all-reduced, 4 bytes a parameter; with "
        "fsdp, shared parameters gathered twice and their gradients scattered. Much more sent than "
        "predicted means that the partitioner exchanges activations, which grow with the batch. "
        "Arguments: parameters, average, optimiser's state and rows of a batch, of one device.",
        pod_model.chip_table(),
        "Sources: `benchmarks/pod_model.py`. Peaks are those of float32 products at JAX's default "
        "precision (bf16 on TPUs, TF32 on H100). TPU latency: 1 us a hop.",
        pod_model.pod_table(rows),
        f"Not measured. {work.parameters / 1e6:.2f} million parameters, "
        f"{work.operations / 1e9:.2f} GFLOP a sample and step (forward, and twice that backward), "
        f"computed at {fraction:.0%} of peak, which is an assumption. Exchange is by layer, "
        f"{work.layers} in turn. Batches are samples a chip; efficiency is compute / (compute + "
        "exchange that is not hidden): without overlap / with all of compute to hide behind. "
        f"{TARGET:.0%} is without overlap. fsdp is as it is meant: parameters gathered, nothing "
        "else. The update of parameters, at memory speed, is in neither efficiency.",
    ]


def chart(measured: dict, rows: list[dict]):
    """Overhead against devices; predicted efficiency against samples a chip."""
    figure = blank(11, 4.6)
    left, right = figure.subplots(1, 2)
    tidy(left, "Measured: seconds a sample over one device, quartiles")
    for fsdp, hue, mesh in ((1, "#0b5cad", "data parallel"), (2, "#c44e00", "fsdp = 2")):
        for kind, dash in (("strong", "-"), ("weak", (0, (4, 2)))):
            own = [r for r in measured["rows"] if r["fsdp"] == fsdp and kind in r]
            own.sort(key=lambda r: r["devices"])
            x, y = (np.array([r[key] for r in own]) for key in ("devices", kind))
            spread = np.array([np.divide(r["quartiles"], r["seconds"]) for r in own])
            off = y * np.abs(spread.T - 1)
            shift = 1.03 ** (2 * (fsdp - 1) + (kind == "weak") - 1.5)  # so that whiskers part
            about = {"color": hue, "ls": dash, "marker": "o", "ms": 4.5, "lw": 1.8}
            about |= {"yerr": off, "elinewidth": 1, "capsize": 2}
            left.errorbar(x * shift, y, label=f"{mesh}, {kind}", **about)
    left.axhline(1, color=QUIET, lw=0.9)
    counts = sorted({r["devices"] for r in measured["rows"]})
    left.set_xscale("log", base=2)
    left.set_xticks(counts, [str(n) for n in counts])
    left.set_ylim(bottom=0)
    kind = "devices" if measured["real"] else "virtual devices on the same cores"
    left.set_xlabel(kind, fontsize=9.5, color=QUIET)
    tidy(right, f"Predicted: efficiency on {POD} chips, no overlap")
    widths = iter((6, 3.6, 1.6, 1.6))  # the TPUs' lines lie on each other
    for row in rows:
        alone, about = row["fsdp"] == 1, {"color": HUES[row["chip"]]}
        about |= {"label": row["chip"], "lw": next(widths)} if alone else {"ls": (0, (4, 2))}
        right.plot(BATCHES, row["exposed"], **about)
    right.plot([], [], color=QUIET, ls=(0, (4, 2)), label=f"fsdp = {pod_model.GROUP}")
    right.axhline(TARGET, color=QUIET, lw=0.9)
    right.set_xscale("log", base=2)
    right.set_xticks(BATCHES, [str(b) for b in BATCHES])
    right.set_ylim(0, 1)
    right.set_xlabel(f"samples a chip (times {POD}: a step)", fontsize=9.5, color=QUIET)
    for ax, place in ((left, "lower left"), (right, "lower right")):
        ax.legend(loc=place, frameon=False, fontsize=9, handlelength=3)
    return figure


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="timings of a case")
    parser.add_argument("--fraction", type=float, default=0.4, help="of peak, on a pod's chip")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = common.parse(parser)
    if options.rounds < 1 or not 0 < options.fraction <= 1:
        parser.error("--rounds is at least 1, --fraction above 0 and at most 1")
    rounds = 3 if options.smoke else options.rounds
    if options.worker:
        print(json.dumps(measured(rounds, options.smoke)))
        return
    found = ask_worker(rounds, options.smoke)
    found["rows"] = with_overhead(found["rows"], found["real"])
    latents = configs.Latents()
    sizes = SIZES | {"channels": latents.channels, "attention": "joint", "patch": 1}
    operations = pod_model.step_operations(sizes, len(networks.MODALITIES))
    work = pod_model.Work(found["parameters"], operations, SIZES["layers"])
    rows = pod_model.predicted(work, options.fraction)
    result = {
        "title": "A training step against the number of devices"
        + (", smoke run: tiny sizes, not optimised" if options.smoke else ""),
        "command": common.command_line("scaling"),
        **found,
        "work": work._asdict(),
        "fraction": options.fraction,
        "chips": {name: chip._asdict() for name, chip in pod_model.CHIPS.items()},
        "batches": BATCHES,
        "pod": rows,
    }
    parts = sections(found, work, rows, options.fraction)
    common.write(options.workdir, "scaling", result, parts, chart(found, rows))


if __name__ == "__main__":
    main()
