"""Memory of training and evaluation against the number of utterances.

Command: python -m benchmarks.memory --workdir=DIR [--sizes=10000,100000,1000000] [--smoke]
Time: 20 minutes on two cores, and some 4 GB on the disk.

Each run is `python -m mmdjax.main` in a process of its own: synthetic utterances are made on the
fly, prepared as array_record, and the two-stage system, zero (trained) and the linear probe are
trained on them for an epoch and evaluated on a tenth as many. Networks are small. With
`config.data.buffer` at 0 no split is held in memory; beside it the same with splits in memory.

Anonymous memory (RssAnon of /proc/self/status, looked at a hundred times a second) is what the
process itself holds: arrays, programs, buffers. The largest resident size (VmHWM) also counts
pages of libraries and of files, which the system takes back when it needs them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks import common
from mmdjax.evaluation.figures import INK, QUIET

CONFIG = """
from configs import synthetic

def get_config():
    config = synthetic.get_config()
    config.title, config.seeds, config.optimise = "memory", (0,), False
    config.systems = ("zero_trained", "linear_probe")
    config.rounds = 1
    config.latents.channels = 8
    config.fusion.heads = 2
    config.score.update(width=16, layers=1, mlp=16, time_features=8)
    config.decoder.update(channels=8, blocks=1, reduction=4)
    config.diffusion.nfe = 3
    config.evaluation.update(draws=2, batch=1024, rates=(0.5,))
    for phase in (config.classifier_training, config.score_training, config.stage2_training):
        phase.batch = 1024
        phase.epochs = 1
    return config
"""
PROGRAM = """
import json, sys, threading, time

def field(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name)) / 1024

most, end = [0.0], threading.Event()

def watch():
    while not end.wait(0.01):
        most[0] = max(most[0], field("RssAnon"))

threading.Thread(target=watch, daemon=True).start()
sys.argv[0] = "mmdjax.main"
from mmdjax import main
begun = time.monotonic()
try:
    main.console()
finally:
    end.set()
    seconds = time.monotonic() - begun
    print(json.dumps({"anonymous": most[0], "resident": field("VmHWM"), "seconds": seconds}))
"""
VALIDATED = 4096  # utterances of validation, at every size
IN_MEMORY = 2**20  # a buffer that holds everything, in MiB
HELD = 100_000  # the most utterances that are also trained on in memory


def measure(folder: Path, size: int, buffer: int) -> dict:
    """MiB that a run held at most, and its seconds; what an earlier one left is not used."""
    made = (folder / "run", folder / "cache" / "datasets")
    for path in made:
        shutil.rmtree(path, ignore_errors=True)
    config = folder / "config.py"
    config.write_text(CONFIG)
    changes = [f"--config.data.{key}={value}" for key, value in sizes_of(size).items()]
    root = str(Path(__file__).parents[1])
    # Programs are kept between runs, so that no run has the compiler's memory and others not.
    environment = {"PYTHONPATH": root, "MMDJAX_CACHE": str(folder / "cache")}
    given = (f"--config={config}", f"--workdir={folder / 'run'}", f"--config.data.buffer={buffer}")
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *given, *changes],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    for path in made:
        shutil.rmtree(path)
    row = {"utterances": size, "buffer": buffer, **sizes_of(size)}
    row |= json.loads(done.stdout.splitlines()[-1])
    print(f"{size} utterances, buffer {buffer}: {row['anonymous']:.0f} MiB", flush=True)
    return row | {"wall": time.monotonic() - begun}


def sizes_of(size: int) -> dict[str, int]:
    return {"train": size, "valid": min(VALIDATED, size), "test": max(size // 10, 64)}


def picture(rows: list[dict]) -> Figure:
    figure = Figure(figsize=(6.4, 3.4), layout="constrained", facecolor="white")
    ax = figure.subplots()
    for buffer, label, color in ((IN_MEMORY, "in memory", "#8a8a8a"), (0, "streamed", "#2a6fb0")):
        points = [(r["train"], r["anonymous"]) for r in rows if r["buffer"] == buffer]
        ax.plot(*zip(*points, strict=True), "o-", color=color, label=label)
    ax.set_xscale("log")
    ax.set_ylim(0)
    ax.set_xlabel("training utterances", color=QUIET)
    ax.set_ylabel("anonymous memory, at most (MiB)", color=QUIET)
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(colors=INK)
    ax.legend(frameon=False)
    return figure


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--sizes", default="10000,100000,1000000", help="training utterances")
    options = common.parse(parser)
    from mmdjax.runtime.machine import machine

    sizes = [500, 2000] if options.smoke else [int(n) for n in options.sizes.split(",")]
    folder, rows = options.workdir, []
    measure(folder, sizes[0], 0)  # compiles
    for size in sizes:
        for buffer in (0, IN_MEMORY) if size <= HELD else (0,):
            path = folder / f"memory_{size}_{buffer}.json"
            rows.append(common.kept(path, lambda n=size, b=buffer: measure(folder, n, b)))
    shutil.rmtree(folder / "cache")
    for row in rows:
        (folder / f"memory_{row['utterances']}_{row['buffer']}.json").unlink()
    (folder / "config.py").unlink()
    result = {
        "title": "Memory against the number of utterances",
        "command": common.command_line("memory"),
        "machine": machine(),
        "rows": rows,
    }
    header = ["training utterances", "tested on", "splits", "anonymous, at most (MiB)"]
    header += ["resident, at most (MiB)", "seconds"]
    body = [
        [str(r["train"]), str(r["test"]), "in memory" if r["buffer"] else "streamed"]
        + [f"{r[key]:.0f}" for key in ("anonymous", "resident", "seconds")]
        for r in rows
    ]
    about = [" ".join(part.split()) for part in __doc__.split("\n\n")[2:]]
    common.write(folder, "memory", result, [*about, ("One run each", header, body)], picture(rows))
    print((folder / "memory.md").read_text())


if __name__ == "__main__":
    sys.exit(main())
