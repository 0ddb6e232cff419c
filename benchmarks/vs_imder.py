"""A whole draw by IMDer's own PyTorch code and by our recipes, in one run.

Command: python -m benchmarks.vs_imder --imder=CHECKOUT --workdir=DIR [--smoke] [--rounds=5]

CHECKOUT is a clone of IMDer's public repository; its score network and sampler run as they stand
(`imder_checkout.py`), as installed and with glibc's malloc thresholds raised. One missing modality
given the others, 48 frames of 32 channels, batch 32 and 1, encoding of the condition included. Ours
are the published network and the compact one of configs/mosi_fast.py, with one virtual device a
core. Sides are processes of their own, which take turns of one draw, or of as many as half a second
holds; seconds are medians over turns. Weights are random: time does not depend on them. Needs the
extra `bench`. Writes vs_imder.json, .md and .png. About 4 minutes on two cores.
"""

from __future__ import annotations

import importlib.metadata
import time
from pathlib import Path

from matplotlib.figure import Figure
from rich.progress import track

from benchmarks import common
from benchmarks.imder_checkout import EVALUATIONS, load
from benchmarks.sides import ALL, SIDES, Side
from benchmarks.vs_torch_cases import PREFIX, SMOKE
from benchmarks.vs_torch_cases import case as case_of
from mmdjax.errors import UserError

INSTALLED, RAISED = "PyTorch", "PyTorch, malloc raised"
NAMES = {INSTALLED: "IMDer, as installed", RAISED: "IMDer, malloc raised"}
TURN = 0.5  # seconds that a side draws, at least, before it is the other's turn
RECIPES = ("fast-8", "fast-4", "fast-2", "fast-1")


def compact() -> dict:
    """Return the sizes of the network of configs/mosi_fast.py."""
    from dataclasses import asdict

    score = asdict(common.config_of("mosi_fast", path="-").score)
    return {name: score[name] for name in PREFIX}


def cases(checkout: str, smoke: bool) -> list[dict]:
    """Return what is timed, IMDer first."""
    networks = {"published": PREFIX, "compact": compact()}
    listed = []
    for batch in (1,) if smoke else (32, 1):
        about = {"form": "imder", "checkout": checkout, "batch": batch, "dtype": "float32"}
        for side in (INSTALLED, RAISED):
            name = {"name": NAMES[side], "network": "U-Net", "nfe": EVALUATIONS}
            listed.append(about | {"side": side, "recipe": "Euler-Maruyama 100"} | name)
        for network, score in networks.items():
            for recipe in RECIPES:
                sizes = score | SMOKE if smoke else score
                one = case_of("", ALL, "mmdjax", sizes, recipe, batch=batch)
                listed.append(one | {"name": "mmdjax", "network": f"{network}, prefix"})
    return listed


def measure(listed: list[dict], rounds: int) -> list[dict]:
    """Return a row for each case; they take turns, batch by batch."""
    rows = []
    sides = {name: Side(SIDES[name]) for name in {c["side"] for c in listed}}
    for batch in dict.fromkeys(c["batch"] for c in listed):
        part = {str(i): c for i, c in enumerate(listed) if c["batch"] == batch}
        for name, c in track(part.items(), description=f"batch {batch}: compiling"):
            sides[c["side"]].ask(do="build", name=name, case=c)

        def runner(name: str, side: str):
            def run() -> float:
                seconds = sides[side].ask(do="run", name=name, least=TURN)["seconds"]
                time.sleep(0.2)  # threads of the last side stop spinning
                return seconds

            return run

        seconds = common.alternate({n: runner(n, c["side"]) for n, c in part.items()}, rounds)
        for name, c in part.items():
            about = {key: c[key] for key in ("name", "network", "recipe", "nfe", "batch")}
            rows.append(about | common.quartiles(seconds[name]))
    for side in sides.values():
        side.close()
    return rows


def best_of(rows: list[dict], batch: int) -> float:
    """Return IMDer's best seconds at a batch size."""
    return min(r["seconds"] for r in rows if r["batch"] == batch and r["name"] != "mmdjax")


def sections(rows: list[dict]) -> list:
    """Return a table for each batch size."""
    made = []
    for batch in dict.fromkeys(r["batch"] for r in rows):
        header = ["", "network", "recipe", "NFE", "milliseconds", "quartiles", "times IMDer's best"]
        body = [
            [
                r["name"],
                r["network"],
                r["recipe"],
                str(r["nfe"]),
                f"{1000 * r['seconds']:.1f}",
                "–".join(f"{1000 * q:.1f}" for q in r["quartiles"]),
                f"{best_of(rows, batch) / r['seconds']:.1f}",
            ]
            for r in rows
            if r["batch"] == batch
        ]
        made.append((f"Batch {batch}", header, body))
    return made


def chart(rows: list[dict]) -> Figure:
    """Return milliseconds a draw over evaluations, IMDer's beside ours."""
    batches = list(dict.fromkeys(r["batch"] for r in rows))
    figure = Figure(figsize=(4.6 * len(batches), 4), layout="constrained")
    for axes, batch in zip(
        figure.subplots(1, len(batches), squeeze=False)[0], batches, strict=True
    ):
        part = [r for r in rows if r["batch"] == batch]
        for network in dict.fromkeys(r["network"] for r in part):
            line = [r for r in part if r["network"] == network]
            label = network if network != "U-Net" else "IMDer's PyTorch code"
            style = "s" if network == "U-Net" else "o-"
            x, y = [r["nfe"] for r in line], [1000 * r["seconds"] for r in line]
            axes.plot(x, y, style, label=label)
        axes.set(xscale="log", yscale="log", xlabel="network evaluations", title=f"batch {batch}")
        axes.set_ylabel("milliseconds a draw")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(frameon=False, fontsize=8)
    return figure


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--imder", required=True, help="a clone of IMDer's public repository")
    parser.add_argument("--rounds", type=int, default=5, help="timings of every case")
    options = common.parse(parser)
    try:
        load(options.imder)
    except (UserError, ImportError) as error:
        parser.error(str(error))
    from mmdjax.runtime.machine import machine

    listed = cases(str(Path(options.imder).resolve()), options.smoke)
    rows = measure(listed, 1 if options.smoke else options.rounds)
    result = {
        "title": "mmdjax against IMDer's own code",
        "command": common.command_line("vs_imder"),
        "machine": machine() | {"torch": importlib.metadata.version("torch")},
        "rows": rows,
    }
    common.write(options.workdir, "vs_imder", result, sections(rows), chart(rows))


if __name__ == "__main__":
    main()
