"""A process with limits in which files are read that nobody vouches for.

What ends or hangs a library, or takes more than `budget` allows, ends that process and not the run.
This module is both sides of it: `Child` starts the process and asks, `serve` answers in it.

A request on standard input, and its answer on standard output, is `HEAD`: the size of some JSON and
that of the bytes after it; then the JSON, then the bytes. An answer may be {"error": one line}, and
before it there may be {"more": true} with bytes each. The first answer comes unasked: the process
has started. Where Python has no `resource`, or the system no such limit, there is none.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmdjax.data.formats import budget, lazy
from mmdjax.data.formats.lazy import one_line, refused
from mmdjax.errors import UserError

try:
    import resource
except ImportError:  # not on this system
    resource = None

HEAD = struct.Struct("<QQ")
PATIENCE = 300.0  # seconds without an answer, however little work is done
_ROOT = str(Path(__file__).parents[3])
# -P: what lies in the working directory does not hide Python's own modules
_PROGRAM = (
    "import sys; root, module = sys.argv[1:]; root in sys.path or sys.path.insert(0, root); "
    "import importlib; importlib.import_module(module).main()"
)


class Child:
    """The one process for all files of a kind; a new one after it ended."""

    def __init__(self, module: str, what: str, allowed: str) -> None:
        """module: whose `main` calls `serve`. what, allowed: who reads what there, for messages."""
        self._module, self._what, self._allowed = module, what, allowed
        self._forget()
        atexit.register(self.stop)
        os.register_at_fork(after_in_child=self._forget)  # a parent's process is not ours to ask

    def _forget(self) -> None:
        self._lock, self._process = threading.Lock(), None

    @property
    def is_running(self) -> bool:
        return self._process is not None

    def ask(
        self,
        path: str | os.PathLike,
        request: dict,
        content: bytes | np.ndarray = b"",
        receive: Callable | None = None,
        allowed: str = "",
    ) -> Any:
        """Return what `receive` makes of the answer to a request about a file.

        Args:
          receive: (pipe) -> value and the last answer's JSON; by default that twice.
          allowed: for messages, in the place of the usual.

        Raises:
          UserError: the file cannot be read within the limits, or the process ended or hung on it.
        """
        request = request | {"path": os.path.abspath(path)}
        value, answer = None, {}
        with self._lock:
            try:
                child = self._running()
                text = json.dumps(request).encode()
                _write(child.stdin.fileno(), HEAD.pack(len(text), len(content)) + text)
                _write(child.stdin.fileno(), content)
                value, answer = (receive or _json)(child.stdout.fileno())
                problem = answer.get("error", "")
                if answer.get("spent"):
                    self.stop(kill=True)
            except TimeoutError:
                problem = f"{self._what} has not answered for {PATIENCE:.0f} s"
                self.stop(kill=True)
            except UserError:
                raise
            except (OSError, ValueError, EOFError, MemoryError):
                problem = self._ended(request["path"])
            except BaseException:  # control-C: half an answer is in the pipe
                self.stop(kill=True)
                raise
        if problem:
            raise refused(path, one_line(problem), allowed or self._allowed)
        return value

    def _running(self) -> subprocess.Popen:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _PROGRAM, _ROOT, self._module],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # control-C is the run's to handle
            )
            try:
                _json(self._process.stdout.fileno())
            except (OSError, EOFError):
                self.stop(kill=True)
                problem = f"{self._what} cannot be started"
                raise UserError(
                    f"{problem}; try: python -c 'import h5py, {self._module}'"
                ) from None
        return self._process

    def _ended(self, path: str) -> str:
        """Return why the process has ended, or does not make sense."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        code = self._process.returncode
        self.stop(kill=True)
        if code == -getattr(signal, "SIGXCPU", 0):
            return f"takes more than {budget.seconds(budget.size_of(path))} s of work"
        return f"{self._what} has ended on it: damaged"

    def stop(self, kill: bool = False) -> None:
        child, self._process = self._process, None
        if child is None:
            return
        if kill:
            child.kill()
        for pipe in (child.stdin, child.stdout):
            with contextlib.suppress(OSError):
                pipe.close()
        child.wait()


def into(arrays: Sequence[np.ndarray]) -> Callable:
    """A `receive` that puts the bytes of an answer into arrays."""

    def receive(pipe: int) -> tuple[Sequence[np.ndarray], dict]:
        answer, size = head(pipe)
        if "error" not in answer:
            if size != sum(a.nbytes for a in arrays):
                raise ValueError("other bytes than it declared")
            for array in arrays:
                lazy.fill(array, Patient(pipe))
        return arrays, answer

    return receive


def head(pipe: int) -> tuple[dict, int]:
    """Return the JSON of the next answer, and how many bytes follow it."""
    size, more = HEAD.unpack(_exactly(pipe, HEAD.size))
    return json.loads(_exactly(pipe, size)), more


def _json(pipe: int) -> tuple[dict, dict]:
    answer, _ = head(pipe)
    return answer, answer


def _exactly(pipe: int, size: int) -> bytes:
    content = np.empty(size, np.uint8)
    lazy.fill(content, Patient(pipe))
    return content.tobytes()


class Patient:
    """Reads a pipe, and gives up after `PATIENCE` seconds of nothing."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def readinto(self, buffer: memoryview) -> int:
        if not select.select([self._pipe], [], [], PATIENCE)[0]:
            raise TimeoutError
        return os.readv(self._pipe, [buffer])


def _write(pipe: int, content: bytes | np.ndarray) -> None:
    content = memoryview(content)
    while len(content):
        content = content[os.write(pipe, content[: 2**20]) :]


# --- in the process --------------------------------------------------------------------------


def serve(requests: Mapping[str, Callable], told: Callable[[Exception], str]) -> None:
    """Answer requests until there are none.

    Args:
      requests: name -> (request, content) -> facts and arrays to send.
      told: what an exception says of the file.
    """
    if resource:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    source = sys.stdin.buffer
    _send({}, [])
    while start := source.read(HEAD.size):
        size, more = HEAD.unpack(start)
        request, content = json.loads(source.read(size)), source.read(more)
        try:
            _limit(budget.size_of(request["path"]) + len(content))
            facts, arrays = requests[request["do"]](request, content)
        except Exception as error:  # whatever a library makes of a damaged file
            problem = told(error)
            if isinstance(error, MemoryError):
                most = budget.most(budget.size_of(request["path"]))
                problem = f"takes more than {most} bytes of memory"
            facts = {"error": problem[:400]}
            facts["spent"] = isinstance(error, (MemoryError, RecursionError))
            arrays, error = [], None
        _send(facts, arrays)
        arrays = []


def send_more(content: memoryview) -> None:
    """Send bytes before the answer."""
    _send({"more": True}, [np.frombuffer(content, np.uint8)])


def _send(facts: dict, arrays: Sequence[np.ndarray]) -> None:
    text, target = json.dumps(facts).encode(), sys.stdout.buffer
    target.write(HEAD.pack(len(text), sum(a.nbytes for a in arrays)) + text)
    for array in arrays:
        target.write(lazy.bytes_of(array))
    target.flush()


def _limit(size: int) -> None:
    """Allow this process what reading a file of `size` bytes may take, from now on."""
    if resource is None:
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    done = int(used.ru_utime + used.ru_stime) + 1
    _set("RLIMIT_CPU", done + budget.seconds(size))
    with contextlib.suppress(OSError, ValueError):
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        _set("RLIMIT_AS", now + budget.most(size))


def _set(name: str, soft: int) -> None:
    hard = resource.getrlimit(getattr(resource, name))[1]
    soft = soft if hard == resource.RLIM_INFINITY else min(soft, hard)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(getattr(resource, name), (soft, hard))
