"""The sides of a benchmark against PyTorch: processes of their own, of which one works at a time.

Threads, malloc and virtual devices are set at a process' start.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

RAISED = "glibc.malloc.mmap_threshold=2147483648:glibc.malloc.trim_threshold=4294967296"
# In processes of PyTorch, JAX makes parameters and nothing else.
_PYTORCH = {"JAX_PLATFORMS": "cpu"}
SIDES = {
    "PyTorch": _PYTORCH,
    "PyTorch, malloc raised": _PYTORCH | {"GLIBC_TUNABLES": RAISED},
    "mmdjax": {},
    "mmdjax, a device a core": {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={os.cpu_count()}"
    },
}
TORCH, MALLOC, ONE, ALL = SIDES
SEVERAL = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # of a GPU, whose memory the sides share


class Side:
    """A worker process; see `vs_torch_worker.py`."""

    def __init__(self, environment: dict[str, str]):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.vs_torch_worker"],
            env=os.environ | SEVERAL | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, **request) -> dict:
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"a side ended with status {self._process.wait()}: {request}")
        return json.loads(line)

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()
