"""Programs that run once, evaluated by numpy: drawing parameters takes less time than compiling it.

A function is traced as for `jax.jit`; the operations that its result needs are evaluated one by
one. Random bits are JAX's own (Threefry; Salmon et al. 2011), so a key gives the same numbers as a
compiled program up to rounding, on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.interpreters.partial_eval import dce_jaxpr
from scipy import special

from mmdjax.runtime.compilation import AheadOfTime, signature

KEY = np.dtype([("high", np.uint32), ("low", np.uint32)])  # one element a key, as in JAX


class OnHost:
    """A function of keys and arrays whose result is a pytree of numpy arrays.

    A function with other operations than those of initialisers is compiled after all.
    """

    def __init__(self, function: Callable) -> None:
        self._function = function
        self._traces: dict[tuple, tuple[Any, Any, Any]] = {}
        self.compiled = AheadOfTime.run_once(function)

    def __call__(self, *arguments: Any) -> Any:
        leaves = jax.tree.leaves(arguments)
        if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            return self._function(*arguments)
        jaxpr, constants, shapes = self._trace(arguments)
        if not evaluable(jaxpr):
            return jax.device_get(self.compiled(*arguments))
        with np.errstate(over="ignore"):  # random bits are counted without carry
            values = evaluate(jaxpr, constants, [_plain(leaf) for leaf in leaves])
        return jax.tree.unflatten(jax.tree.structure(shapes), values)

    def prepare(self, *shapes: Any) -> None:
        """Traces it, so that a call need not."""
        self._trace(shapes)

    def shapes(self, *arguments: Any) -> Any:
        """Returns the shapes of its result."""
        return self._trace(arguments)[2]

    def _trace(self, arguments: tuple) -> tuple[Any, Any, Any]:
        key = signature(arguments)
        if key not in self._traces:
            closed, shapes = jax.make_jaxpr(self._function, return_shape=True)(*arguments)
            needed, _ = dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars), True)
            self._traces[key] = needed, closed.consts, shapes
        return self._traces[key]


def _plain(leaf: Any) -> np.ndarray:
    if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return _keys(*np.moveaxis(np.asarray(jax.random.key_data(leaf)), -1, 0))
    return np.asarray(leaf)


def _keys(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    keys = np.empty(np.shape(high), KEY)
    keys["high"], keys["low"] = high, low
    return keys


def threefry(
    key: tuple[np.ndarray, np.ndarray], counts: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns two words of Threefry-2x32 with 20 rounds.

    Args:
      key, counts: two uint32 arrays each, broadcast against each other.
    """
    words = (*key, key[0] ^ key[1] ^ np.uint32(0x1BD11BDA))
    a, b = counts[0] + words[0], counts[1] + words[1]
    for group in range(5):
        for turn in ((13, 15, 26, 6), (17, 29, 16, 24))[group % 2]:
            a = a + b
            b = (b << np.uint32(turn) | b >> np.uint32(32 - turn)) ^ a
        a = a + words[(group + 1) % 3]
        b = b + words[(group + 2) % 3] + np.uint32(group + 1)
    return a, b


def _counted(keys: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Returns Threefry of 0, 1, ... for each key: two arrays (*keys, *shape)."""
    counts = np.arange(np.prod(shape, dtype=int), dtype=np.uint32).reshape(shape)
    keys = keys[(..., *(None,) * len(shape))]
    return threefry((keys["high"], keys["low"]), (np.zeros_like(counts), counts))


def _bits(keys: np.ndarray, *, shape: tuple[int, ...], **_: Any) -> np.ndarray:
    return np.bitwise_xor(*_counted(keys, shape))


def _split(keys: np.ndarray, *, shape: tuple[int, ...]) -> np.ndarray:
    return _keys(*_counted(keys, shape))


def _fold_in(keys: np.ndarray, data: np.ndarray) -> np.ndarray:
    data = np.asarray(data).astype(np.uint32)
    return _keys(*threefry((keys["high"], keys["low"]), (np.zeros_like(data), data)))


def _broadcast(
    a: np.ndarray, *, shape: tuple[int, ...], broadcast_dimensions: Sequence[int], **_: Any
) -> np.ndarray:
    extended = np.ones(len(shape), int)
    extended[list(broadcast_dimensions)] = a.shape
    return np.broadcast_to(a.reshape(extended), shape)


def _scan(
    *operands: np.ndarray,
    jaxpr: Any,
    length: int,
    num_consts: int,
    num_carry: int,
    reverse: bool,
    **_: Any,
) -> list[np.ndarray]:
    constants, rest = operands[:num_consts], operands[num_consts:]
    carry, rows, results = list(rest[:num_carry]), rest[num_carry:], []
    order = slice(None, None, -1 if reverse else 1)
    for i in range(length)[order]:
        values = _call(*constants, *carry, *(row[i] for row in rows), jaxpr=jaxpr)
        carry = values[:num_carry]
        results.append(values[num_carry:])
    return [*carry, *(np.stack(column) for column in zip(*results[order], strict=True))]


def _call(*operands: np.ndarray, jaxpr: Any, **_: Any) -> list[np.ndarray]:
    return evaluate(jaxpr.jaxpr, jaxpr.consts, operands)


CALLS = {"jit": _call, "pjit": _call, "scan": _scan}
OPERATIONS: dict[str, Callable[..., Any]] = {
    "random_bits": _bits,
    "random_split": _split,
    "random_fold_in": _fold_in,
    "random_clone": lambda keys: keys,
    "broadcast_in_dim": _broadcast,
    "convert_element_type": lambda a, *, new_dtype, **_: a.astype(new_dtype),
    "bitcast_convert_type": lambda a, *, new_dtype: a.view(new_dtype),
    "transpose": lambda a, *, permutation: a.transpose(permutation),
}
ELEMENTWISE = {
    "stop_gradient": np.asarray,
    "shift_right_logical": np.right_shift,
    "or": np.bitwise_or,
    "erf": special.erf,
    "erf_inv": special.erfinv,
    "sqrt": np.sqrt,
    "nextafter": np.nextafter,
    "max": np.maximum,
    "min": np.minimum,
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
}
# Their other parameters, such as an accuracy, are XLA's.
OPERATIONS |= {name: lambda *a, f=f, **_: f(*a) for name, f in ELEMENTWISE.items()}


def evaluable(jaxpr: Any) -> bool:
    """Returns whether all its operations are known here, and random bits are JAX's default."""

    def known(equation) -> bool:
        if equation.primitive.name in CALLS:
            return evaluable(equation.params["jaxpr"].jaxpr)
        return equation.primitive.name in OPERATIONS

    default = jax.config.jax_default_prng_impl == "threefry2x32"
    return default and jax.config.jax_threefry_partitionable and all(map(known, jaxpr.eqns))


def evaluate(jaxpr: Any, constants: Sequence[Any], arguments: Sequence[Any]) -> list[np.ndarray]:
    """Returns the results of a jaxpr of `OPERATIONS`; keys are arrays of `KEY`."""
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*constants, *arguments), strict=True))

    def read(atom):
        return np.asarray(atom.val, atom.aval.dtype) if hasattr(atom, "val") else values[atom]

    for equation in jaxpr.eqns:
        name, operands = equation.primitive.name, map(read, equation.invars)
        if name in CALLS:
            results = CALLS[name](*operands, **equation.params)
        else:
            results = [np.asarray(OPERATIONS[name](*operands, **equation.params))]
        values.update(zip(equation.outvars, results, strict=True))
    return [np.asarray(read(atom)) for atom in jaxpr.outvars]
