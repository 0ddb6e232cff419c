"""Parameters as one float32 vector, and back.

The optimiser, clipping, the moving average and checkpoints treat all numbers alike. On one vector
each of them is a few operations instead of a few for every one of hundreds of arrays, which makes a
training step several times shorter to compile.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmdjax.types import Params


class Layout(NamedTuple):
    """Where each array of a pytree is in the vector; hashable, so compiled functions may hold it.

    Attributes:
      tree: structure. names, shapes: of the arrays, in the order of the vector.
    """

    tree: jax.tree_util.PyTreeDef
    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, tree: Params) -> Layout:
        """Of a pytree of arrays or of their shapes.

        Raises:
          TypeError: one of them is not float32.
        """
        leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
        for path, leaf in leaves:
            if leaf.dtype != np.float32:
                name = jax.tree_util.keystr(path)
                raise TypeError(f"parameter {name} is {leaf.dtype}; allowed: float32")
        names = tuple(jax.tree_util.keystr(path) for path, _ in leaves)
        return cls(structure, names, tuple(tuple(leaf.shape) for _, leaf in leaves))

    @property
    def size(self) -> int:
        return sum(map(math.prod, self.shapes))

    def __str__(self) -> str:
        """Tells networks apart."""
        pairs = zip(self.names, self.shapes, strict=True)
        return "; ".join(f"{name} {list(shape)}" for name, shape in pairs)

    def flat(self, tree: Params, size: int) -> np.ndarray | jax.Array:
        """The vector (size,), zero beyond the numbers; numpy of numpy, jax inside a program."""
        leaves = self.tree.flatten_up_to(tree)
        xp = np if all(isinstance(leaf, np.ndarray) for leaf in leaves) else jnp
        parts = [leaf.reshape(-1) for leaf in leaves]
        return xp.concatenate([*parts, xp.zeros(size - self.size, np.float32)])

    def unflat(self, vector: np.ndarray | jax.Array) -> Params:
        """The pytree of a vector (at least `size`,); of numpy, it shares the vector's memory."""
        sizes = [math.prod(shape) for shape in self.shapes]
        vector = vector[: self.size]
        if isinstance(vector, np.ndarray):
            parts = np.split(vector, list(itertools.accumulate(sizes))[:-1])
        else:
            parts = jax.lax.split(vector, sizes)
        shaped = [part.reshape(shape) for part, shape in zip(parts, self.shapes, strict=True)]
        return self.tree.unflatten(shaped)
