"""Runs as their users start them: one process or several, killed, stopped and started again."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.limits import HANGS

ROOT = Path(__file__).parents[2]
# Every kind of phase, and as little of each as there can be.
TINY = """
from configs import synthetic

def get_config():
    config = synthetic.get_config()
    config.title = "tiny"
    config.seeds = (0,)
    config.save_seconds = 0.0
    config.systems = ("two_stage evaluation.draws=1", "two_stage_complete", "linear_probe", "bayes")
    config.optimise = False
    config.data.update(train=96, valid=32, test=48)
    config.latents.channels = 8
    config.fusion.heads = 2
    config.score.update(width=16, layers=1, mlp=16, time_features=8)
    config.decoder.update(channels=8, blocks=1, reduction=4)
    config.diffusion.nfe = 3
    config.evaluation.update(draws=2, batch=64, rates=(0.5,))
    for phase in (config.classifier_training, config.score_training, config.stage2_training):
        phase.batch = 16
        phase.epochs = 3
    return config
"""


# Stands before a command whose files may not be larger than so many KiB.
SMALL_FILES = ("bash", "-c", 'ulimit -f 8; exec "$@"', "limited")


MAIN = ("-m", "mmdjax.main")


def start(config, workdir, *more, devices=1, under=(), program=MAIN) -> subprocess.Popen:
    """A process of a run on so many virtual devices; under: a command that runs it; program: what
    Python runs."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), "XLA_FLAGS": flags}
    return subprocess.Popen(
        [*under, sys.executable, *program, f"--config={config}", f"--workdir={workdir}", *more],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def start_all(
    config, workdir, *more, processes=1, devices=1, program=MAIN
) -> list[subprocess.Popen]:
    """All processes of a run, with so many virtual devices each."""
    if processes == 1:
        return [start(config, workdir, *more, devices=devices, program=program)]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    meeting = (f"--coordinator=127.0.0.1:{port}", f"--processes={processes}")
    return [
        start(
            config,
            workdir,
            *more,
            *meeting,
            f"--process={index}",
            devices=devices,
            program=program,
        )
        for index in range(processes)
    ]


def finish(process, status: int = 0) -> str:
    """Its output, once it has ended as it should."""
    output = process.communicate(timeout=HANGS)[0]
    assert process.returncode == status, output
    return output


def kill(processes) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
    for process in processes:
        process.communicate()


def numbers(workdir) -> dict:
    """Everything in results.json but the clock's readings."""
    rows = json.loads((workdir / "results.json").read_text())
    keys = ("system", "protocol", "condition", "seed", "metric")
    return {tuple(r[k] for k in keys): r["value"] for r in rows if r["metric"] != "seconds"}
