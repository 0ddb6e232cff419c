"""Spreads the rows of a batch over the devices of this process, virtual ones of a CPU included."""

from __future__ import annotations

import os
from collections.abc import Callable

import jax
import numpy as np

VIRTUAL = 2  # measured with two cores


def divide_cpu() -> None:
    """Makes two devices of a CPU of several cores, unless the user has said how many.

    Each takes half of every batch: on two cores a training step takes 0.6 of its time and a draw
    0.8, since most operations are too small to be shared by two threads (docs/performance.md).
    Accelerators are not concerned. To be called before anything is asked of JAX.
    """
    chosen = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if not chosen and "JAX_NUM_CPU_DEVICES" not in os.environ and (os.cpu_count() or 1) > 1:
        jax.config.update("jax_num_cpu_devices", VIRTUAL)


def over_devices(function: Callable, shared: tuple, arrays: tuple, axes: tuple[int, ...], out: int):
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


def on_all_devices(tree, rows: int):
    """Copies a pytree to every device that a call of so many rows uses."""
    return jax.device_put(tree, replicated()) if spreads(rows) else tree


def replicated() -> jax.sharding.NamedSharding:
    """Returns the sharding of an array that each local device holds whole."""
    mesh = jax.sharding.Mesh(np.array(jax.local_devices()), ("rows",))
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
