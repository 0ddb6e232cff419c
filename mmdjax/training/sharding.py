"""Training over a (data, fsdp) mesh: which device holds which parameters and rows of a batch."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from mmdjax.errors import UserError
from mmdjax.training.settings import Mesh

AXES = ("data", "fsdp")


class Placement(NamedTuple):
    """mesh: of a phase. shard_from: bytes from which a vector is spread over 'fsdp'."""

    mesh: jax.sharding.Mesh
    shard_from: int

    @property
    def everywhere(self) -> NamedSharding:
        return NamedSharding(self.mesh, P())

    @property
    def rows(self) -> NamedSharding:
        """Of a batch: both axes take parts of it."""
        return NamedSharding(self.mesh, P(AXES))

    def of(self, leaf: jax.Array | np.ndarray | jax.ShapeDtypeStruct) -> NamedSharding:
        """Of the vector of parameters, or of anything of its shape: in parts over 'fsdp'."""
        size = math.prod(leaf.shape) * leaf.dtype.itemsize
        if self.parts == 1 or leaf.ndim == 0 or size < self.shard_from:
            return self.everywhere
        return NamedSharding(self.mesh, P("fsdp"))

    @property
    def parts(self) -> int:
        return self.mesh.shape["fsdp"]

    def padded(self, size: int) -> int:
        """Of a vector that is spread: equal parts."""
        return -(-size // self.parts) * self.parts

    def shapes(self, tree: Any, sharding: NamedSharding | None = None) -> Any:
        """`jax.ShapeDtypeStruct`s of a pytree as it will be placed.

        Args:
          sharding: of every leaf; by default that of parameters.
        """
        return jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding or self.of(a)), tree
        )

    def placed(self, tree: Any) -> Any:
        """Numpy arrays, the same ones in every process, as parameters are placed."""

        def one(a):
            return jax.make_array_from_callback(a.shape, self.of(a), lambda index: a[index])

        return jax.tree.map(one, tree)

    def constrained(self, tree: Any) -> Any:
        """Parameters inside a compiled function, kept where they belong."""
        return jax.tree.map(lambda a: jax.lax.with_sharding_constraint(a, self.of(a)), tree)

    def gathered(self, vector: jax.Array) -> jax.Array:
        """Parameters inside a compiled function, whole for as long as they are used. Without it the
        partitioner exchanges activations, which are many times larger."""
        if self.parts == 1:
            return vector
        return jax.lax.with_sharding_constraint(vector, self.everywhere)

    def copied(self, tree: Any) -> Any:
        """The same pytree on every device."""
        return jax.device_put(jax.device_get(tree), self.everywhere)

    def own_rows(self, batch: int) -> np.ndarray:
        """Which rows of a batch this process' devices take, in order."""
        parts = self.rows.addressable_devices_indices_map((batch,)).values()
        return np.unique(np.concatenate([np.arange(batch)[part] for part in parts]))

    def batch(self, own: Any) -> Any:
        """A global batch from each process' own rows, numpy arrays (own rows, ...)."""
        rows = self.rows
        return jax.tree.map(lambda a: jax.make_array_from_process_local_data(rows, a), own)

    def settled(self, tree: Any) -> Any:
        """The same, waited for where devices are a CPU's: two programs that exchange numbers, both
        under way, may wait for each other's threads forever."""
        if self.mesh.size > 1 and jax.default_backend() == "cpu":
            jax.block_until_ready(tree)
        return tree

    def host(self, vector: jax.Array) -> np.ndarray:
        """A copy of a vector in this process' memory, whole; all processes ask together."""
        if not vector.is_fully_replicated:
            vector = self.settled(_gather(self.everywhere)(vector))
        # Copied: on a CPU it would be the device's own memory, which the next step overwrites.
        return np.array(vector.addressable_data(0))


@functools.lru_cache
def _gather(everywhere: NamedSharding) -> Callable[[jax.Array], jax.Array]:
    return jax.jit(lambda vector: vector, out_shardings=everywhere)


def placement(settings: Mesh, batch: int) -> Placement:
    """The devices of a phase.

    Args:
      settings: `mmdjax.config.Mesh`. batch: samples a step.

    Raises:
      UserError: more devices than there are, or a number that does not divide the batch.
    """
    devices, fsdp = jax.devices(), settings.fsdp
    most = len(devices) // fsdp
    data = settings.data or most
    if not settings.data and jax.process_count() == 1:
        while data > 1 and batch % (data * fsdp):
            data -= 1
    used = data * fsdp
    given = f"config.mesh: data {settings.data}, fsdp {fsdp} with {len(devices)} devices"
    if not 0 < used <= len(devices) or (jax.process_count() > 1 and used != len(devices)):
        raise UserError(f"{given}; allowed: data times fsdp devices, of several processes all")
    if batch % used:
        raise UserError(f"{given} and a batch of {batch}; allowed: a batch that {used} divides")
    types = (AxisType.Auto,) * len(AXES)
    mesh = jax.make_mesh((data, fsdp), AXES, devices=devices[:used], axis_types=types)
    return Placement(mesh, settings.shard_from)
