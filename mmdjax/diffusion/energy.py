"""The energy score of draws: least, on average, where they have the law of what is observed.

    ES = E|X - y|^b - 1/2 E|X - X'|^b        X, X' independent draws, y the truth, 0 < b < 2

Strictly proper (Gneiting & Raftery 2007, section 4.3): no network beats one that draws from the
conditional law, by however few evaluations. Without the second term and with b = 2 the best draw is
the conditional mean, whatever noise it is given.
"""

import jax
import jax.numpy as jnp

SMALLEST = 1e-8  # under the root, whose slope at 0 is infinite


def energy_score(
    draws: jax.Array, truth: jax.Array, mask: jax.Array, beta: float = 1.0, repulsion: float = 1.0
) -> jax.Array:
    """Returns the unbiased estimate (B,) from M draws of each row; 0 where a row has no entry.

    Args:
      draws: (B, M, T, D), M of 2 or more where there is repulsion. truth: (B, T, D).
      mask: (B, T) bool, frames that count.
      beta: exponent of the distance, which is the root of the mean square over entries.
      repulsion: weight of the second term; 1 is the energy score.
    """
    entries = jnp.maximum(mask.sum(-1) * truth.shape[-1], 1)

    def distance(gap, entries):
        square = jnp.where(mask.reshape(len(mask), *(1,) * (gap.ndim - 3), -1, 1), gap, 0.0) ** 2
        mean = square.sum((-1, -2)) / entries
        if beta == 2:
            return mean
        return jnp.where(mean > 0, (mean + SMALLEST) ** (beta / 2), 0.0)

    count = draws.shape[1]
    near = distance(draws - truth[:, None], entries[:, None]).mean(1)
    if not repulsion or count == 1:
        return near
    apart = distance(draws[:, :, None] - draws[:, None], entries[:, None, None]).sum((1, 2))
    return near - repulsion * apart / (2 * count * (count - 1))
