"""Configs times seeds: one run for each, some of them at the same time.

Command: python launch/sweep.py --workdir=DIR --seeds=0,1,2 [--at_most=2] CONFIG... [-- FLAGS...]
A run is in DIR/NAME/seed_S; its output is appended to log.txt there. The same command goes on where
a sweep stopped, and leaves out what is finished. A run that fails does not stop the others.
DIR/sweep.json holds rows {config, seed, status, seconds, workdir, flags}; status 0 is finished, 75
stopped by a signal.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from common import Parser, collect_signals, exit_status, parse, told, whole

STOPPED = 75  # what a run that was stopped by a signal ends with


class Run(NamedTuple):
    config: str
    seed: int
    folder: Path

    def __str__(self) -> str:
        return f"{self.folder.parent.name}, seed {self.seed}"


class Started(NamedTuple):
    run: Run
    process: subprocess.Popen
    since: float
    log_size: int


def main(argv: list[str]) -> int:
    parser = Parser(__doc__)
    parser.add_argument("--workdir", type=Path, required=True, help="the folder of all runs")
    parser.add_argument("--seeds", required=True, help="whole numbers with commas between")
    parser.add_argument("--at_most", type=whole(1), default=1, help="runs at the same time")
    parser.add_argument("--dry-run", action="store_true", help="print the commands, run nothing")
    parser.add_argument(
        "--module", default="mmdjax.main", help="what is run instead of mmdjax.main"
    )
    parser.add_argument("configs", nargs="*", metavar="CONFIG", help="FILE.py or FILE.py:VARIANT")
    given, flags = parse(parser, argv)
    try:
        runs = runs_of(given.configs, seeds_of(given.seeds), given.workdir)
        rows = read_rows(given.workdir / "sweep.json")
    except (OSError, ValueError) as error:
        parser.error(str(error))
    commands = {run: command_of(run, given.module, flags) for run in runs}
    if given.dry_run:
        for run in runs:
            mark = "# finished: " if is_finished(run, rows, flags) else ""
            print(mark + shlex.join(commands[run]))
        return 0
    try:
        return sweep(commands, rows, given.workdir / "sweep.json", flags, given.at_most)
    except OSError as error:
        parser.error(f"{error.filename or given.workdir}: {error.strerror or error}")


def seeds_of(text: str) -> list[int]:
    if not all(part.isdecimal() for part in text.split(",")):
        raise ValueError(f"--seeds={text}; allowed: whole numbers with commas between, such as 0,1")
    return [int(part) for part in text.split(",")]


def runs_of(configs: list[str], seeds: list[int], workdir: Path) -> list[Run]:
    """Every config with every seed, in folders of their own.

    Raises:
      ValueError: no config, one that is not a file, two that would share a folder.
    """
    if not configs:
        raise ValueError("no config was given; allowed: files such as configs/synthetic.py")
    runs: dict[Path, Run] = {}
    for config in configs:
        if not Path(config.partition(":")[0]).is_file():
            raise ValueError(
                f"config {config!r} is not a file; allowed: FILE.py or FILE.py:VARIANT"
            )
        for seed in seeds:
            run = Run(config, seed, workdir / name_of(config) / f"seed_{seed}")
            if run.folder in runs:
                both = f"{runs[run.folder].config!r} and {config!r} with seed {seed}"
                raise ValueError(f"{both} share {run.folder}; allowed: each run once")
            runs[run.folder] = run
    return list(runs.values())


def name_of(config: str) -> str:
    """configs/experiments/sde.py:smoke is experiments.sde-smoke, whatever else is in the sweep."""
    file, _, variant = config.partition(":")
    path = Path(os.path.relpath(file)) if is_below_here(file) else Path(os.path.abspath(file))
    parts = [part for part in path.with_suffix("").parts if part != path.anchor]
    if parts[0] == "configs" and len(parts) > 1:
        del parts[0]
    name = ".".join(parts)
    return f"{name}-{variant.replace('/', '.')}" if variant else name


def is_below_here(file: str) -> bool:
    return Path(os.path.abspath(file)).is_relative_to(Path.cwd())


def command_of(run: Run, module: str, flags: list[str]) -> list[str]:
    return [
        *(sys.executable, "-m", module, f"--config={run.config}", f"--stopped_status={STOPPED}"),
        *(*flags, f"--workdir={run.folder}", f"--config.seeds=({run.seed},)"),
    ]


def read_rows(path: Path) -> dict[tuple, dict]:
    """What earlier sweeps wrote, by config's name and seed's folder."""
    if not path.exists():
        return {}
    try:
        return {Path(row["workdir"]).parts[-2:]: row for row in json.loads(path.read_text())}
    except (json.JSONDecodeError, KeyError, TypeError):
        raise ValueError(f"{path} is not a sweep's; delete it, or give another workdir") from None


def write_rows(path: Path, rows: dict[tuple, dict]) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(list(rows.values()), indent=1) + "\n")
    temporary.replace(path)


def is_finished(run: Run, rows: dict[tuple, dict], flags: list[str]) -> bool:
    """With the same flags; with others, the run itself says whether it can go on."""
    row = rows.get(run.folder.parts[-2:], {})
    same = row.get("status") == 0 and row.get("flags") == flags
    return same and (run.folder / "results.json").exists()


def sweep(
    commands: dict[Run, list[str]], rows: dict, table: Path, flags: list[str], at_most: int
) -> int:
    """Runs what is not finished.

    Args:
      rows: of earlier sweeps, changed here. table: where they are written, after every run.

    Returns:
      0, 1 if a run is not finished, 128 + N after signal N.
    """
    asked = collect_signals()
    waiting = [run for run in commands if not is_finished(run, rows, flags)]
    total, ended, forwarded = len(commands), len(commands) - len(waiting), 0
    if ended:
        say(f"{ended} of {total} are finished already")
    write_rows(table, rows)
    running: list[Started] = []
    failed: list[Run] = []
    try:
        while running or (waiting and not asked):
            while waiting and len(running) < at_most and not asked:
                say(f"{total - len(waiting) + 1} of {total} started: {waiting[0]}")
                running.append(start(waiting[0], commands[waiting[0]]))
                del waiting[0]
            if len(asked) > forwarded:
                forwarded = len(asked)
                stop(running)
            for one in [one for one in running if one.process.poll() is not None]:
                running.remove(one)
                ended += 1
                row = rows[one.run.folder.parts[-2:]] = row_of(one, flags)
                write_rows(table, rows)
                how = "stopped" if row["status"] == STOPPED else "finished"
                if row["status"] not in (0, STOPPED):
                    failed.append(one.run)
                    how = f"failed with {told(row['status'])}: {last_line(one)}"
                say(f"{ended} of {total} ended: {one.run}, {row['seconds']:.0f} s, {how}")
            time.sleep(0.05)
    finally:
        stop(running)  # there are some only when the disk is full
    finished = sum(is_finished(run, rows, flags) for run in commands)
    names = "; ".join(f"{run} ({run.folder / 'log.txt'})" for run in failed)
    say(f"{finished} of {total} finished" + (f"; failed: {names}" if failed else ""))
    if finished < total:
        say("the same command goes on with what is not finished")
    return 128 + asked[0] if asked else int(finished < total)


def stop(running: list[Started]) -> None:
    for one in running:
        one.process.send_signal(signal.SIGTERM)


def start(run: Run, command: list[str]) -> Started:
    run.folder.mkdir(parents=True, exist_ok=True)
    with open(run.folder / "log.txt", "ab") as log:
        log.write(f"$ {shlex.join(command)}\n".encode())
        log.flush()
        # In a session of its own a run does not get the terminal's Ctrl-C beside our SIGTERM.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        return Started(run, process, time.monotonic(), log.tell())


def row_of(one: Started, flags: list[str]) -> dict:
    status = exit_status(one.process.returncode)
    if status == 0 and not (one.run.folder / "results.json").exists():
        status = STOPPED
    return {
        "config": one.run.config,
        "seed": one.run.seed,
        "status": status,
        "seconds": round(time.monotonic() - one.since, 2),
        "workdir": str(one.run.folder),
        "flags": flags,
    }


def last_line(one: Started) -> str:
    """Of what the run wrote since it was started."""
    with open(one.run.folder / "log.txt", "rb") as log:
        log.seek(one.log_size)
        lines = log.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "no output")


def say(text: str) -> None:
    with contextlib.suppress(OSError):  # a terminal that was closed does not end the sweep
        print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
