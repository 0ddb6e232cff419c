"""Several processes of one run on this machine, which meet over the loopback.

Command: python launch/local.py --processes=2 [--devices=2] -- --config=FILE --workdir=DIR [FLAGS]
Every line of output begins with its process, `[0] ` or `[1] `. When one fails the others are ended
(SIGTERM, then SIGKILL), and its exit status is the launcher's. SIGTERM or Ctrl-C goes to all as
SIGTERM: the run is saved, and the same command goes on.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time

from common import Parser, collect_signals, exit_status, parse, told, whole


def main(argv: list[str]) -> int:
    parser = Parser(__doc__)
    parser.add_argument("--processes", type=whole(1), required=True, help="how many")
    parser.add_argument("--devices", type=whole(1), help="virtual CPU devices of each process")
    parser.add_argument("--dry-run", action="store_true", help="print the commands, run nothing")
    parser.add_argument(
        "--module", default="mmdjax.main", help="what is run instead of mmdjax.main"
    )
    parser.add_argument(
        "--grace",
        type=whole(0),
        default=10,
        help="seconds from SIGTERM to SIGKILL, once a process has failed",
    )
    given, flags = parse(parser, argv)
    meeting = f"--coordinator=127.0.0.1:{free_port()}"
    commands = [
        [
            *(sys.executable, "-m", given.module),
            *(meeting, f"--processes={given.processes}", f"--process={index}", *flags),
        ]
        for index in range(given.processes)
    ]
    environment = on_virtual_devices(given.devices)
    if given.dry_run:
        settings = [f"{name}={shlex.quote(value)}" for name, value in environment.items()]
        for command in commands:
            print(" ".join([*settings, shlex.join(command)]))
        return 0
    return run(commands, environment, given.grace)


def free_port() -> int:
    """A port that nobody listens to at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def on_virtual_devices(count: int | None) -> dict[str, str]:
    """Environment variables that make a process see `count` CPU devices; none to change nothing."""
    if count is None:
        return {}
    flag = f"--xla_force_host_platform_device_count={count}"
    return {
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip(),
        "JAX_PLATFORMS": "cpu",
    }


def run(commands: list[list[str]], environment: dict[str, str], grace: float) -> int:
    """Runs all commands to their end.

    Returns:
      The exit status of the first that failed, or 0.
    """
    asked = collect_signals()
    processes = [start(command, environment) for command in commands]
    last_lines = [""] * len(processes)
    lock = threading.Lock()
    readers = [
        threading.Thread(target=relay, args=(process, index, last_lines, lock), daemon=True)
        for index, process in enumerate(processes)
    ]
    for reader in readers:
        reader.start()
    failed = wait(processes, asked, grace)
    for reader in readers:
        reader.join(timeout=2)  # a grandchild may still hold the pipe
    statuses = [exit_status(process.returncode) for process in processes]
    if asked:
        ended = ", ".join(map(str, statuses))
        name = signal.Signals(asked[0]).name
        print(f"local.py: stopped by {name}; exit statuses: {ended}", file=sys.stderr)
    elif failed is not None:
        ended = f"process {failed} ended with {told(statuses[failed])}"
        print(f"local.py: {ended}; its last line: {last_lines[failed]}", file=sys.stderr)
    return 0 if failed is None else statuses[failed]


def start(command: list[str], environment: dict[str, str]) -> subprocess.Popen:
    # In a session of its own a process does not get the terminal's Ctrl-C beside our SIGTERM.
    return subprocess.Popen(
        command,
        env=os.environ | environment | {"PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )


def relay(process: subprocess.Popen, index: int, last_lines: list[str], lock) -> None:
    """Prints a process' lines behind its number until it closes its output."""
    for line in process.stdout:
        text = line.rstrip("\n")
        if text.strip():
            last_lines[index] = text
        # When nobody reads us any more the process still needs a reader, or it waits for ever.
        with lock, contextlib.suppress(OSError):
            print(f"[{index}] {text}", flush=True)


def wait(processes: list[subprocess.Popen], asked: list[int], grace: float) -> int | None:
    """Waits for all; passes signals on, and ends the rest after a failure.

    Returns:
      The process that failed first, None if none did.
    """
    forwarded, failed, deadline = 0, None, None
    while True:
        running = [process for process in processes if process.poll() is None]
        if failed is None:
            bad = (index for index, process in enumerate(processes) if process.returncode)
            failed = next(bad, None)
            # After a signal every process saves and ends by itself, with any status.
            if failed is not None and not asked:
                deadline = time.monotonic() + grace
                send(running, signal.SIGTERM)
        if not running:
            return failed
        if len(asked) > forwarded:
            forwarded = len(asked)
            send(running, signal.SIGTERM)
        if deadline is not None and time.monotonic() > deadline:
            for process in running:
                os.killpg(process.pid, signal.SIGKILL)
        time.sleep(0.05)


def send(processes: list[subprocess.Popen], number: int) -> None:
    for process in processes:
        process.send_signal(number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
