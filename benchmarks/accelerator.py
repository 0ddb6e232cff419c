"""Everything that needs a GPU or TPU, in one command: speed, tests, exports, several processes.

Command: python -m benchmarks.accelerator --workdir=DIR [--parts=a,b] [--minutes=25] [--dry_run]

Each part is a process, or two at once, with a time limit and a log of its own: a part that fails,
or is cut at its limit, stops none of the others. Limits are shares of --minutes. accelerator.json
and .md say after every part which succeeded, failed or was cut, and name the logs; parts that have
succeeded in DIR are not run again. Parts, in order:

    attention   our attention against the library's, by XLA and cuDNN (`attention.py`)
    export      a model is exported, and loaded in other processes (`cold_start.py`)
    two_jobs    two separate runs on the device at once, which have to come to the same results
    two_ranks   two processes of one run on one device; NCCL may refuse that, and the log says so
    tests       pytest tests/contracts
    draws       `vs_torch.py`: float32, TF32, bfloat16, torch.compile with CUDA graphs
    training    `vs_torch_training.py`: every phase, and the time to a validation loss

--dry_run: the short forms, for a test on a CPU. The exit status is that of a command that ran: 0
whatever the parts did. `draws` and `training` need the extra `bench`.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks import common
from benchmarks.sides import SEVERAL
from mmdjax.errors import UserError, choice
from mmdjax.runtime.sums import rows_of

ROOT = Path(__file__).parents[1]
PYTHON = sys.executable
LITTLE = (  # changes of the quick start that make it a matter of seconds
    *("classifier_training.epochs=1", "score_training.epochs=1", "stage2_training.epochs=1"),
    *("score.width=16", "score.mlp=16", "score.time_features=8", "score.layers=1"),
    *("decoder.blocks=1", "decoder.channels=8", "latents.channels=8", "fusion.heads=2"),
    *("evaluation.draws=2", "evaluation.rates=(0.5,)", "diffusion.nfe=3"),
    *("data.train=96", "data.valid=32", "data.test=48", 'systems=("linear_probe",)'),
)
HALF = {"XLA_PYTHON_CLIENT_PREALLOCATE": "true", "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.4"}


class Part(NamedTuple):
    """One thing that is run.

    Attributes:
      name: of its log and folder. share: of the time. commands: run at once. environment: changes.
    """

    name: str
    share: float
    commands: tuple[tuple[str, ...], ...]
    environment: dict = {}  # noqa: RUF012


def parts(workdir: Path, dry: bool) -> list[Part]:
    """Return all parts, in order."""

    def benchmark(name: str, *options: str) -> tuple[tuple[str, ...], ...]:
        options = ("--smoke",) if dry else options
        return ((PYTHON, "-m", f"benchmarks.{name}", *options, f"--workdir={workdir / name}"),)

    def job(name: str) -> tuple[str, ...]:
        changes = (f"--config.{change}" for change in LITTLE)
        return ("--config=configs/quickstart.py", *changes, f"--workdir={workdir / name}")

    tests = ("tests/contracts/test_layers.py", "-n", "0") if dry else ("tests/contracts", "-n", "4")
    ranks = (PYTHON, "launch/local.py", "--processes=2", "--", *job("two_ranks"))
    return [
        Part("attention", 0.06, benchmark("attention")),
        Part("export", 0.08, benchmark("cold_start", "--smoke")),
        Part(
            "two_jobs",
            0.08,
            tuple((PYTHON, "-m", "mmdjax.main", *job(f"two_jobs_{i}")) for i in "ab"),
            HALF,
        ),
        Part("two_ranks", 0.08, (ranks,), HALF),
        Part("tests", 0.24, ((PYTHON, "-m", "pytest", "-q", *tests),)),
        Part("draws", 0.22, benchmark("vs_torch", "--rounds=3")),
        Part(
            "training",
            0.24,
            benchmark("vs_torch_training", "--rounds=3", "--frames=48", "--quality"),
        ),
    ]


def run(part: Part, workdir: Path, limit: float) -> dict:
    """Run a part and return its row: status 'succeeded', 'failed' or 'cut', seconds, and the last
    lines of its log."""
    log, started = workdir / f"{part.name}.log", time.monotonic()
    environment = os.environ | SEVERAL | {"PYTHONUNBUFFERED": "1"} | part.environment
    with log.open("w") as file:
        running = [
            subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that a cut reaches what it has started
            )
            for command in part.commands
        ]
        codes = []
        try:
            for process in running:
                left = limit - (time.monotonic() - started)
                try:
                    codes.append(process.wait(max(left, 0)))
                except subprocess.TimeoutExpired:
                    codes.append(None)
        finally:  # also where this command itself is ended
            for process in running:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
    status = "cut" if None in codes else "failed" if any(codes) else "succeeded"
    lines = log.read_text(errors="replace").splitlines()
    row = {"part": part.name, "status": status, "seconds": time.monotonic() - started}
    row |= {"limit": limit, "codes": codes, "log": log.name}
    return row | {"last": [line for line in lines if line.strip()][-3:]}


def compared(workdir: Path, row: dict) -> dict:
    """Return the row of `two_jobs`, failed where the two runs came to different results."""
    if row["part"] != "two_jobs" or row["status"] != "succeeded":
        return row
    first, second = (untimed(workdir / f"two_jobs_{i}") for i in "ab")
    if first == second:
        return row
    return row | {"status": "failed", "last": ["the two runs have different results"]}


def untimed(workdir: Path) -> list:
    """Return the rows of a run's results.json but for what was timed."""
    return [row for row in rows_of(workdir) if row["metric"] != "seconds"]


def table(rows: list[dict], waiting: list[str]) -> tuple:
    """Return the table of all parts."""
    header = ["part", "status", "seconds", "limit (s)", "log", "its last line"]
    body = [
        [
            *(r["part"], r["status"], f"{r['seconds']:.0f}", f"{r['limit']:.0f}", r["log"]),
            (r["last"] or [""])[-1][:100].replace("|", "/"),
        ]
        for r in rows
    ]
    return "Parts", header, body + [[name, "not run", "", "", "", ""] for name in waiting]


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, required=True, help="where results are written")
    parser.add_argument("--parts", default="", help="names, comma-separated; all by default")
    parser.add_argument("--minutes", type=float, default=25.0, help="for all parts together")
    parser.add_argument("--dry_run", action="store_true", help="the short forms, on a CPU")
    options = common.parse(parser)
    workdir = options.workdir.resolve()
    known = {part.name: part for part in parts(workdir, options.dry_run)}
    names = [name for name in options.parts.split(",") if name] or list(known)
    try:
        for name in names:
            choice("--parts", name, tuple(known))
    except UserError as error:
        parser.error(str(error))
    path = workdir / "accelerator.json"
    before = json.loads(path.read_text())["rows"] if path.exists() else []
    done = {r["part"]: r for r in before if r["status"] == "succeeded"}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    whole = sum(known[name].share for name in names)
    for index, name in enumerate(names):
        if name not in done:
            print(f"{name}: at most {60 * options.minutes * known[name].share / whole:.0f} s")
            row = run(known[name], workdir, 60 * options.minutes * known[name].share / whole)
            done[name] = compared(workdir, row)
            print(f"{name}: {done[name]['status']} after {done[name]['seconds']:.0f} s", flush=True)
        rows = [done[name] for name in known if name in done]
        waiting = [name for name in names[index + 1 :] if name not in done]
        write(workdir, rows, waiting)


def write(workdir: Path, rows: list[dict], waiting: list[str]) -> None:
    """Write the summary, without asking anything of a device that a part may hold."""
    result = {"title": "What was run on this device", "rows": rows, "waiting": waiting}
    result |= {"command": common.command_line("accelerator"), "machine": on_this_machine()}
    common.write(workdir, "accelerator", result, [table(rows, waiting)])


@functools.cache
def on_this_machine() -> dict[str, str]:
    """Return the machine as a process of its own sees it, so that this one holds no device."""
    program = (
        "import json; from mmdjax.runtime.machine import machine; print(json.dumps(machine()))"
    )
    done = subprocess.run(
        [PYTHON, "-c", program], cwd=ROOT, env=os.environ | SEVERAL, capture_output=True, text=True
    )
    known = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {}
    return known | common.versions("torch", "diffusers", "pytest")


if __name__ == "__main__":
    main()
