"""The machine and the versions that numbers were made with."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import sys

import jax

from mmdjax.runtime import processes


@functools.cache
def machine() -> dict[str, str]:
    """Return where numbers were made."""
    device = jax.devices()[0]
    packages = ("jax", "flax", "optax", "orbax-checkpoint", "numpy")
    of_processes = f", {jax.process_count()} processes" if processes.several() else ""
    return {
        "processor": f"{platform.machine()}, {os.cpu_count()} cores",
        "device": f"{jax.device_count()} x {device.device_kind} ({device.platform}){of_processes}",
        "python": sys.version.split()[0],
    } | {name: importlib.metadata.version(name) for name in packages}
