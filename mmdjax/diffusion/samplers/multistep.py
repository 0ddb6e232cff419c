"""What multistep methods share: past network outputs, and their polynomial's integral.

With m the network's output and p the polynomial through the last k of them at nodes s_j, a step
needs int p(s) w(s) ds = sum_j m_j int l_j(s) w(s) ds with Lagrange's l_j. The integrals are taken
by Gauss-Legendre quadrature, for any number of nodes at any distances: the closed forms, with terms
like (exp(-h) - 1 + h) / h^2, lose their digits for small steps.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmdjax.diffusion.samplers.registry import Sampler

_POINTS, _WEIGHTS = (a.tolist() for a in np.polynomial.legendre.leggauss(8))


class History(NamedTuple):
    """The last outputs, newest first: nodes (k,), values (k, B, ...), and how many there are."""

    nodes: jax.Array
    values: jax.Array
    count: jax.Array


def empty(x: jax.Array, node: jax.Array, size: int) -> History:
    """No outputs yet; the nodes are distinct so that no weight is ever 0 / 0."""
    nodes = node + 1.2345 * (1 + jnp.arange(size, dtype=x.dtype))
    return History(nodes, jnp.zeros((size, *x.shape), x.dtype), jnp.zeros((), jnp.int32))


def push(history: History, node: jax.Array, value: jax.Array) -> History:
    nodes = jnp.roll(history.nodes, 1).at[0].set(node)
    values = jnp.roll(history.values, 1, axis=0).at[0].set(value)
    return History(nodes, values, history.count + 1)


def sampler(step: Callable, node: Callable, size: int, order: int, normals: int = 0) -> Sampler:
    """A sampler whose steps evaluate the network once and remember its last `size` outputs.

    Args:
      step: (x, history, t, t_next, z) -> x and history at t_next.
      node: t -> the coordinate of the outputs' polynomial.
      order, normals: see `Sampler`.
    """
    return Sampler(
        init=lambda x, t: (x, empty(x, node(t), size)),
        step=lambda carry, *times_and_normals: step(*carry, *times_and_normals),
        nfe=1,
        order=order,
        normals=normals,
        state=lambda carry: carry[0],
    )


def quadrature(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Points and weights (8,) of the integral from a to b."""
    dtype = jnp.result_type(a, b)  # explicit: with float64 enabled numpy's own would spread
    points, weights = jnp.asarray(_POINTS, dtype), jnp.asarray(_WEIGHTS, dtype)
    return a + (b - a) * 0.5 * (1 + points), 0.5 * (b - a) * weights


# Sum of |weights| over |sum of weights| beyond which extrapolation blows up what is wrong in the
# outputs. Equal steps have 3.7 for three outputs and 6.7 for four.
STEADY = 10.0


def integral(history: History, order: int, points: jax.Array, weights: jax.Array) -> jax.Array:
    """int p(s) w(s) ds, p through the newest k outputs, k as large as `order`, their number and
    steadiness allow: over a step much longer than the last ones, high orders only magnify errors.

    Args:
      points: (P,) where p is needed, in the nodes' coordinate. weights: (P,) of the quadrature,
        times w there.
    """
    rows = []
    for k in range(1, order + 1):
        row = [(weights * _lagrange(history.nodes[:k], j, points)).sum() for j in range(k)]
        row = jnp.stack(row).astype(history.nodes.dtype)
        rows.append(jnp.pad(row, (0, order - k)))
    table = jnp.stack(rows)
    steady = jnp.abs(table).sum(1) <= STEADY * jnp.abs(table.sum(1))
    usable = (steady & (jnp.arange(order) < history.count)).at[0].set(True)
    used = table[order - 1 - jnp.argmax(usable[::-1])]
    return jnp.tensordot(used, history.values[:order], axes=1)


def _lagrange(nodes: jax.Array, j: int, s: jax.Array) -> jax.Array:
    product = jnp.ones_like(s)
    for i in range(len(nodes)):
        if i != j:
            product = product * (s - nodes[i]) / (nodes[j] - nodes[i])
    return product
