"""Spreads the rows of a batch over the devices of this process, virtual ones of a CPU included."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from mmdjax.runtime.memory import keep_memory


def set_up_cpu(count: int) -> None:
    """Divides a CPU into devices, and makes steps of training on it fast.

    XLA_FLAGS and JAX_NUM_CPU_DEVICES may say how many devices there are. Accelerators are not
    concerned. Where JAX has been asked for devices already, as in a program that calls
    `mmdjax.main` itself, everything stays as it is.

    By default a program runs in one thread of JAX's pool, of which there is one a core, and its
    parts in the others, so that a core waits. With one device the thread that calls it runs it, in
    whose heap freed memory can stay; several devices run in threads.
    """
    chosen = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    chosen = chosen or "JAX_NUM_CPU_DEVICES" in os.environ
    if count > 1 and not chosen:
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", count)
    several = count > 1 or chosen
    keep_memory(one_heap=several)
    if not several:
        jax.config.update("jax_cpu_enable_async_dispatch", False)


def over_devices(
    function: Callable, shared: tuple, arrays: tuple, axes: tuple[int, ...], out: int
) -> Any:
    """Returns function(*shared, *arrays), with the rows of `arrays` spread over all local devices.

    Args:
      axes: where the rows of each array are. out: where those of every result are.
    """
    if not spreads(arrays[0].shape[axes[0]]):
        return function(*shared, *arrays)
    spec = jax.sharding.PartitionSpec

    def rows_on(axis: int):
        return spec(*(None,) * axis, "rows")

    return jax.shard_map(
        function,
        mesh=replicated().mesh,
        in_specs=(*(spec(),) * len(shared), *map(rows_on, axes)),
        out_specs=rows_on(out),
        check_vma=False,
    )(*shared, *arrays)


def spreads(rows: int) -> bool:
    """Returns whether a call of so many rows uses all devices: they have to divide evenly."""
    devices = len(jax.local_devices())
    return devices > 1 and rows % devices == 0


def on_all_devices(tree: Any, rows: int) -> Any:
    """Copies a pytree to every device that a call of so many rows uses."""
    return jax.device_put(tree, replicated()) if spreads(rows) else tree


def replicated() -> jax.sharding.NamedSharding:
    """Returns the sharding of an array that each local device holds whole."""
    mesh = jax.sharding.Mesh(np.array(jax.local_devices()), ("rows",))
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
