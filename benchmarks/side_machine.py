"""What a side of a benchmark asks of its machine: memory, precision, ceilings."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.common import jax_ceiling, torch_on_gpu

# Of float32 products: JAX's default on a GPU is TF32, PyTorch's is not.
PRECISIONS = {"float32": ("highest", "highest"), "tf32": ("tensorfloat32", "high")}


def set_precision(dtype: str) -> None:
    """Make the products of either library those of a case: 'float32', 'tf32' or 'bfloat16'."""
    import jax

    of_jax, of_torch = PRECISIONS.get(dtype, PRECISIONS["float32"])
    if jax.default_backend() != "cpu":
        jax.config.update("jax_default_matmul_precision", of_jax)
    if "torch" in sys.modules:
        sys.modules["torch"].set_float32_matmul_precision(of_torch)


def on_device() -> int:
    """Return the most bytes that this process had on a GPU; 0 where there is none."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    import jax

    return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)


def resident(field: str) -> int:
    """Return bytes of this process: VmHWM (the peak since `forget_peak`) or VmRSS; 0 where
    unknown."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024
    except (OSError, StopIteration):
        return 0


def forget_peak() -> None:
    """Start a new peak, where the system can."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def ceiling(case: dict) -> float:
    """Return operations a second of this side's own matrix product, operands of case['dtype']."""
    set_precision(case["dtype"])
    if not case["side"].startswith("PyTorch"):
        return jax_ceiling(case["dtype"])
    import torch

    set_precision(case["dtype"])  # PyTorch, too, now that it is imported
    cuda = torch_on_gpu()
    size, best = 8192 if cuda else 2048, np.inf
    dtype = torch.bfloat16 if case["dtype"] == "bfloat16" else torch.float32
    a = torch.randn(size, size, device="cuda" if cuda else "cpu").to(dtype)
    for _ in range(6):
        started = time.perf_counter()
        a @ a
        if cuda:
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def bandwidth() -> float:
    """Return bytes a second that adding one to a large array reads and writes."""
    import jax

    best = np.inf
    if jax.default_backend() == "cpu":
        a = np.zeros(2**27, np.float32)
        add = lambda: np.add(a, 1, out=a)  # noqa: E731
    else:
        a, added = jax.numpy.zeros(2**28), jax.jit(lambda a: a + 1)
        add = lambda: added(a).block_until_ready()  # noqa: E731
        add()
    for _ in range(4):
        started = time.perf_counter()
        add()
        best = min(best, time.perf_counter() - started)
    return 2 * a.nbytes / best
