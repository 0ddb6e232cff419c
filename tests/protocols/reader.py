"""A process that reads files within the limits of `SECURITY.md`, and what it says of them."""

import subprocess
import sys
from pathlib import Path

from tests.end_to_end.runs import ROOT


class Reader:
    """Runs `tests.protocols.bounded`; a new process after it ended."""

    def __init__(self):
        self._process = None

    def read(self, path: Path) -> str:
        """Return 'read' or 'refused: ...'; fail where the process ended."""
        if self._process is None:
            command = [sys.executable, "-m", "tests.protocols.bounded"]
            pipe = subprocess.PIPE
            options = {"stdin": pipe, "stdout": pipe, "stderr": subprocess.DEVNULL}
            self._process = subprocess.Popen(command, cwd=ROOT, text=True, **options)
        self._process.stdin.write(f"{path}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            status, raw = self.close(), path.read_bytes() if path.is_file() else b""
            raise AssertionError(f"reading it ends the process, status {status}: {raw[:2000]}")
        assert line == "read\n" or ("allowed: " in line and line.startswith("refused: ")), line
        return line.rstrip("\n")

    def close(self) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
        process.stdin.close()
        process.stdout.close()
        return process.wait()
