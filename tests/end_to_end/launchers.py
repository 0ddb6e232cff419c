"""Launchers as their users start them."""

import subprocess
import sys
from pathlib import Path

from tests.limits import HANGS

ROOT = Path(__file__).parents[2]
AWKWARD = '/runs/it\'s "a" $(HOME) $HOME: #b'  # as a folder's name
RUN = ["--config=configs/synthetic.py", f"--workdir={AWKWARD}"]


def call(command, environment=None, **more):
    command = [str(word) for word in command]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=HANGS, **more
    )


def python(script, *arguments):
    return [sys.executable, f"launch/{script}", *arguments]
