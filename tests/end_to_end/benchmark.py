"""A benchmark as its user starts it."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.limits import HANGS

ROOT = Path(__file__).parents[2]


def finish(name: str, *options: str) -> None:
    """Run `python -m benchmarks.NAME` to its end."""
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *options],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=HANGS,
    )
    assert done.returncode == 0, done.stderr


def smoke(name: str, workdir: Path, *options: str) -> dict:
    """`python -m benchmarks.NAME --smoke`: what it wrote, and that no folder of this machine is
    in it."""
    finish(name, "--smoke", *options, f"--workdir={workdir}")
    assert str(workdir) not in (workdir / f"{name}.md").read_text()
    assert (workdir / f"{name}.png").stat().st_size > 0
    return json.loads((workdir / f"{name}.json").read_text())
