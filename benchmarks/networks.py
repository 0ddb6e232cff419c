"""The four score networks at the thesis' sizes: parameters, training time, latency, operations.

Command: python -m benchmarks.networks --workdir=DIR [--smoke] [--rounds=10]

The columns of thesis table 6.4, measured here, with the printed ones beside them. Three modalities
of 48 frames and 32 channels, float32, all frames valid, random weights: time does not depend on
them. An application is one pass through one modality's network given the two others, encoding of
the condition included; an evaluation is what a draw repeats, its condition encoded before. Networks
take turns, every timing waits for the device; medians with quartiles. A training step is the
project's own, for the networks of all three modalities at once, batch 32.

Operations are XLA's count (two for a multiply-add) for one application, batch 1. Memory is what the
compiled application holds: its arguments, parameters among them, outputs and temporaries.

Writes networks.json, .md and .png; about five minutes on two cores. What DIR/parts holds is not
measured again.
"""

from __future__ import annotations

import functools
from unittest import mock

import jax
import numpy as np
from matplotlib.figure import Figure

from benchmarks import common
from mmdjax import config as configs
from mmdjax.errors import UserError
from mmdjax.methods.latent.losses import score_loss
from mmdjax.methods.latent.modules import Modules, build
from mmdjax.networks.score_networks import PUBLISHED
from mmdjax.runtime.compilation import keep_programs
from mmdjax.training.step import make_trainer, steps_per_epoch, where_of

# Network -> its name in the printed table, whose order this is.
PRINTED = {
    "unet": "U-Net cross-attention",
    "mmdit": "MMDiT",
    "dit": "DiT",
    "score_transformer": "ScoreTransformer1D",
}
MODALITIES = ("language", "acoustic", "vision")
BATCHES = (1, 32)
PARTS = ("application", "evaluation")
TRAINING = configs.Training(epochs=25)  # epochs and batch of configs/mosi_speed.py
UTTERANCES = 1284  # of CMU-MOSI's training split
EPOCH = steps_per_epoch(np.zeros(UTTERANCES, int), TRAINING.batch)
HERE = "#0b5cad"
SMALL = {"width": 32, "layers": 2, "heads": 2, "mlp": 64, "time_features": 16}
# Title, ours of a row, printed column.
BESIDE = (
    ("parameters (M)", lambda r: r["parameters"] / 1e6, "parameters_M"),
    ("GFLOP", lambda r: r["operations"] / 1e9, "flops_G"),
    ("ms, batch 1", lambda r: 1e3 * r["application_1"]["seconds"], "inference_ms"),
    ("training, computed (h)", lambda r: r["hours"], "training_h"),
    ("parameters (MiB); printed: memory (MB)", lambda r: 4 * r["parameters"] / 2**20, "memory_MB"),
)


def systems(smoke: bool = False) -> dict[str, Modules]:
    """Network -> the modules of a system with it; no parameters yet."""
    latents = configs.Latents(frames=8) if smoke else configs.Latents()
    made = {}
    for name in PRINTED:
        score = configs.Score(network=name, **(PUBLISHED[name] | (SMALL if smoke else {})))
        made[name] = build(configs.Config(latents=latents, score=score), MODALITIES)
    return made


def inputs(score, batch: int) -> tuple:
    """x, t, condition, condition_id, mask, condition_mask: the first modality given the others."""
    shape = (batch, score.modalities, score.frames, score.channels)
    z, valid = np.random.default_rng(0).standard_normal(shape, np.float32), np.ones(shape[:3], bool)
    t, ids = np.full(batch, 0.5, np.float32), np.arange(1, score.modalities)
    return jax.device_put((z[:, 0], t, z[:, 1:], ids, valid[:, 0], valid[:, 1:]))


@functools.cache
def parameter_shapes(score):
    return jax.eval_shape(score.init, jax.random.key(0), *inputs(score, 1))


def parameters(score) -> int:
    """Of one modality's network."""
    return sum(leaf.size for leaf in jax.tree.leaves(parameter_shapes(score)))


def random_parameters(score, *stacked: int):
    """Small numbers, in stacks of `stacked`; compiling the network's own init takes longer."""
    normal = np.random.default_rng(0).standard_normal
    return jax.tree.map(
        lambda leaf: jax.device_put(0.02 * normal((*stacked, *leaf.shape), np.float32)),
        parameter_shapes(score),
    )


def operations(score) -> float:
    """XLA's count for one application, batch 1.

    It counts a loop's body once, however often that runs, and the layers are loops: here they are
    unrolled, in a program that is never run. Counted before XLA optimises, since what a backend
    hands to a library is not counted afterwards.
    """
    scan = jax.lax.scan

    def unrolled(*arguments, **settings):
        return scan(*arguments, **(settings | {"unroll": True}))

    def apply(*arguments):  # a new function, never traced with its loops
        return score.apply(*arguments)

    with mock.patch.object(jax.lax, "scan", unrolled):
        lowered = jax.jit(apply).lower(parameter_shapes(score), *inputs(score, 1))
    found = lowered.cost_analysis()
    return float((found[0] if isinstance(found, list) else found)["flops"])


def counts(smoke: bool) -> dict[str, dict]:
    return {
        name: {"parameters": parameters(m.score), "operations": operations(m.score)}
        for name, m in systems(smoke).items()
    }


def latency(batch: int, rounds: int, smoke: bool) -> dict[str, dict]:
    """Network -> seconds of an application and of an evaluation, and the first's memory."""
    calls, found = {}, {}
    for name, modules in systems(smoke).items():
        score, params = modules.score, random_parameters(modules.score)
        x, t, *condition, mask, shown = given = inputs(score, batch)
        encode, denoise = (
            jax.jit(functools.partial(score.apply, method=m)) for m in ("encode", "denoise")
        )
        whole, encoded = jax.jit(score.apply), encode(params, *condition, shown)
        runs = (whole, params, *given), (denoise, params, x, t, encoded, mask)
        for part, run in zip(PARTS, runs, strict=True):
            timed = common.stopwatch(lambda f=run[0], a=run[1:]: jax.block_until_ready(f(*a)))
            timed()  # compiles
            calls[name, part] = timed
        held = whole.lower(params, *given).compile().memory_analysis()
        sizes = (f"{kind}_size_in_bytes" for kind in ("argument", "output", "temp"))
        found[name] = {f"memory_{batch}": sum(getattr(held, size) for size in sizes)}
    for (name, part), seconds in common.alternate(calls, rounds).items():
        found[name][f"{part}_{batch}"] = common.quartiles(seconds)
    return found


def training(rounds: int, smoke: bool) -> dict[str, dict]:
    """Network -> seconds of an optimiser step, and the hours of the schedule at that speed."""
    states, calls = {}, {}
    weight = np.ones(TRAINING.batch, np.float32)
    for name, modules in systems(smoke).items():
        score = modules.score
        trainer = make_trainer(score_loss(modules), TRAINING, TRAINING.epochs * EPOCH)
        states[name] = trainer.init(random_parameters(score, score.modalities))
        shape = (TRAINING.batch, score.modalities, score.frames, score.channels)
        z = np.random.default_rng(0).standard_normal(shape, np.float32)
        rows = {"z": z, "valid": np.ones(shape[:3], bool)}
        given = (*trainer.placement.batch((rows, weight)), where_of(jax.random.key(1), 0, 0))

        def step(name=name, step=trainer.step, given=given, frames=score.frames):
            batch, weight, where = given
            states[name] = step(states[name], batch, {}, weight, where, frames=frames)
            jax.block_until_ready(states[name])

        step()  # compiles
        calls[name] = common.stopwatch(step)
    found = {}
    for name, seconds in common.alternate(calls, rounds).items():
        step = common.quartiles(seconds)
        found[name] = {"step": step, "hours": step["seconds"] * TRAINING.epochs * EPOCH / 3600}
    return found


def milliseconds(time: dict) -> str:
    low, high = (1e3 * s for s in time["quartiles"])
    return f"{1e3 * time['seconds']:.2f} ({low:.2f}–{high:.2f})"


def sections(rows: list[dict]) -> list:
    beside, own = [], []
    for r in rows:
        pairs = [(f"{ours(r):.3g}", f"{r['printed'][key]:g}") for _, ours, key in BESIDE]
        beside.append([PRINTED[r["network"]], *(text for pair in pairs for text in pair)])
        times = [r[f"{part}_{batch}"] for part in PARTS for batch in BATCHES]
        held = [f"{r[f'memory_{batch}'] / 2**20:.1f}" for batch in BATCHES]
        own.append([PRINTED[r["network"]], *map(milliseconds, [*times, r["step"]]), *held])
    header = ["network", *(text for title, _, _ in BESIDE for text in (title, "printed"))]
    about = ["network", *(f"{part}, batch {batch}" for part in PARTS for batch in BATCHES)]
    about += ["training step, batch 32", *(f"MiB held, batch {batch}" for batch in BATCHES)]
    return [
        ("Beside thesis table 6.4", header, beside),
        "Columns `printed` are the thesis', measured on other hardware: networks compare within a "
        "column, seconds do not compare across. Our hours are computed from the step time below, "
        f"not measured: {TRAINING.epochs} epochs of {EPOCH} steps, which is CMU-MOSI's "
        f"{UTTERANCES:,} training utterances in batches of {TRAINING.batch}, for all three "
        "modalities; the schedule of the printed hours is not known. Printed memory is about that "
        "of the float32 parameters, so these stand beside it.",
        ("Milliseconds, median (quartiles), and memory", about, own),
        "An application encodes the condition; an evaluation, which a draw repeats, finds it "
        "encoded. MiB held: arguments, parameters among them, outputs and temporaries of the "
        "compiled application.",
    ]


def chart(rows: list[dict]) -> Figure:
    """Latency with quartiles at each batch; operations and parameters beside the printed ones."""
    figure = Figure(figsize=(11, 6.6), layout="constrained")
    panels, places = figure.subplots(2, 2, sharey=True).ravel(), np.arange(len(rows))

    def bars(axes, shift: float, values, colour: str, label: str, **whiskers) -> None:
        drawn = axes.barh(places + shift, values, 0.38, color=colour, label=label, **whiskers)
        axes.bar_label(drawn, [f"{v:.3g}" for v in values], padding=4, fontsize=9)

    looks = ((-0.2, HERE, "application"), (0.2, "#6bb3ea", "evaluation: condition encoded before"))
    for axes, batch in zip(panels[:2], BATCHES, strict=True):
        axes.set_title(f"Milliseconds, batch {batch}: median and quartiles", loc="left")
        for part, look in zip(PARTS, looks, strict=True):
            times = [r[f"{part}_{batch}"] for r in rows]
            middle = 1e3 * np.array([t["seconds"] for t in times])
            off = np.abs(1e3 * np.array([t["quartiles"] for t in times]).T - middle)
            bars(axes, look[0], middle, *look[1:], xerr=off, error_kw={"capsize": 3, "lw": 1})
    titles = ("GFLOP of one application, batch 1", "Parameters of one network, millions")
    for axes, title, (_, ours, key) in zip(panels[2:], titles, BESIDE[1::-1], strict=True):
        axes.set_title(title, loc="left")
        bars(axes, -0.2, [ours(r) for r in rows], HERE, "here")
        bars(axes, 0.2, [r["printed"][key] for r in rows], "#b0b0b0", "thesis table 6.4")
    for axes in panels:
        axes.margins(x=0.14)
        axes.title.set_fontsize(11)
        axes.spines[["top", "right"]].set_visible(False)
        about = {"loc": "upper left", "bbox_to_anchor": (0, -0.08), "ncols": 2}
        axes.legend(**about, frameon=False, fontsize=9.5)
    panels[0].set_yticks(places, [PRINTED[r["network"]] for r in rows])
    panels[0].invert_yaxis()
    return figure


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument(
        "--rounds", type=int, default=10, help="timings of a case, ten times as many at batch 1"
    )
    options = common.parse(parser)
    from mmdjax.evaluation.published import efficiency
    from mmdjax.runtime.machine import machine
    from mmdjax.workdir import claim

    keep_programs()
    smoke, rounds = options.smoke, 3 if options.smoke else options.rounds
    if smoke:  # nearly all of its time is compiling
        jax.config.update("jax_disable_most_optimizations", True)
    try:
        claim(options.workdir, {"smoke": smoke, "rounds": rounds})
    except UserError as error:
        parser.error(str(error))
    tasks = {"counts": lambda: counts(smoke), "training": lambda: training(rounds, smoke)}
    for batch in BATCHES:  # single rows are quick, and their times scatter more
        turns = rounds if batch > 1 else 10 * rounds
        tasks[f"latency_{batch}"] = functools.partial(latency, batch, turns, smoke)
    found = [common.kept(options.workdir / "parts" / f"{k}.json", f) for k, f in tasks.items()]
    printed = {r["network"]: r for r in efficiency()}
    rows = [{"network": name, "printed": printed[PRINTED[name]]} for name in PRINTED]
    for row in rows:
        for part in found:
            row |= part[row["network"]]
    result = {
        "title": "The four score networks"
        + (", smoke run: tiny sizes, not optimised" if smoke else ""),
        "command": common.command_line("networks"),
        "machine": machine(),
        "sizes": {name: PUBLISHED[name] | (SMALL if smoke else {}) for name in PRINTED},
        "schedule": {"epochs": TRAINING.epochs, "steps": EPOCH, "batch": TRAINING.batch},
        "rows": rows,
    }
    common.write(options.workdir, "networks", result, sections(rows), chart(rows))


if __name__ == "__main__":
    main()
