"""Latency of one compiled draw against the number of network evaluations.

Command: python -m benchmarks.draw_latency --workdir=DIR [--smoke]

One missing modality given the two others, ScoreTransformer1D of the published size (256 wide, 6
layers, 48 frames; --smoke: 32 wide, 2 layers), float32, random parameters. Each row: seconds of the
first call, which compiles, then the median and quartiles of a draw. Writes draw_latency.json, .md
and .png.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import jax
import numpy as np
from matplotlib.figure import Figure

from mmdjax import config as configs
from mmdjax.evaluation import figures, tables
from mmdjax.experiment import machine
from mmdjax.files import write_bytes, write_json
from mmdjax.methods.draw import make_drawer
from mmdjax.methods.system import build, others

MODALITIES = ("language", "acoustic", "vision")
SMOKE = {"score": {"width": 32, "layers": 2, "heads": 2, "mlp": 64, "time_features": 16}}


def measure(sampler: str, steps: int, batch: int, repeats: int, small: bool) -> dict:
    values = {"diffusion": {"sampler": sampler, "nfe": steps}} | (SMOKE if small else {})
    config = configs.from_dict(values)
    modules = build(config, MODALITIES)
    drawer = make_drawer(modules, config.diffusion)
    frames, channels = config.latents.frames, config.latents.channels
    rng = np.random.default_rng(0)
    condition = rng.standard_normal((batch, 2, frames, channels)).astype(np.float32)
    ids = np.tile(others(3)[0], (batch, 1)).astype(np.int32)
    mask = np.ones((batch, frames), bool)
    condition_mask = np.ones((batch, 2, frames), bool)
    arguments = (condition, ids, mask, condition_mask)
    init = jax.jit(modules.score.init)
    params = jax.vmap(lambda k: init(k, condition[:, 0], np.ones(batch), *arguments))(
        jax.random.split(jax.random.key(0), 3)
    )
    keys = jax.random.split(jax.random.key(1), batch)

    def draw():
        return jax.block_until_ready(drawer.draw(params, 0, *arguments, keys, drawer.guidance))

    started = time.perf_counter()
    nfe = int(draw()[1])
    first, seconds = time.perf_counter() - started, []
    for _ in range(repeats):
        started = time.perf_counter()
        draw()
        seconds.append(time.perf_counter() - started)
    low, middle, high = np.quantile(seconds, (0.25, 0.5, 0.75))
    row = {"sampler": sampler, "nfe": nfe, "batch": batch, "first_call": first}
    return row | {"seconds": middle, "quartiles": [low, high]}


def chart(rows: list[dict]) -> Figure:
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    for key in sorted({(r["sampler"], r["batch"]) for r in rows}):
        part = [r for r in rows if (r["sampler"], r["batch"]) == key]
        x, y = [r["nfe"] for r in part], [r["seconds"] for r in part]
        axes.plot(x, y, "o-", label=f"{key[0]}, batch {key[1]}")
    axes.set(xscale="log", yscale="log", xlabel="network evaluations", ylabel="seconds a draw")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--smoke", action="store_true", help="a small network, within a minute")
    options = parser.parse_args()
    try:
        options.workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--workdir {str(options.workdir)!r} cannot be made: {error.strerror}")
    steps, batches, repeats = ((2, 4), (1, 4), 3) if options.smoke else ((1, 10, 30), (1, 32), 5)
    rows = []
    for batch in batches:
        for sampler in ("ddim", "euler_maruyama"):
            for count in steps:
                row = measure(sampler, count, batch, repeats, options.smoke)
                print("{sampler}, batch {batch}, NFE {nfe}: {seconds:.4f} s".format(**row))
                rows.append(row)
    smoke = " --smoke" if options.smoke else ""
    command = f"python -m benchmarks.draw_latency --workdir=DIR{smoke}"
    result = {"command": command, "machine": machine(), "rows": rows}
    write_json(options.workdir / "draw_latency.json", result)
    header = ["sampler", "batch", "NFE", "first call (s)", "median (s)", "quartiles (s)"]
    body = [
        [
            r["sampler"],
            str(r["batch"]),
            str(r["nfe"]),
            f"{r['first_call']:.2f}",
            f"{r['seconds']:.4f}",
            "{:.4f}–{:.4f}".format(*r["quartiles"]),
        ]
        for r in rows
    ]
    about = "\n".join(f"- {k}: {v}" for k, v in result["machine"].items())
    text = f"# Draw latency\n\n`{command}`\n\n{tables.markdown(header, body)}\n\n{about}\n"
    write_bytes(options.workdir / "draw_latency.md", text.encode())
    figures.save(chart(rows), options.workdir / "draw_latency.png")


if __name__ == "__main__":
    main()
