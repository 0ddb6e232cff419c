"""Frames that are known already, held while the rest is drawn.

Two ways. `hold` needs no training: the known entries of x(t) follow the exact process that ends
in their values, and the network sees them at their right noise level (replacement: Song et al.
2021, appendix I.2). The rest is drawn by a score that knows the noisy values only, so its law is
not the conditional one; 'ancestral' with `resample` (RePaint, Lugmayr et al. 2022) mends more than
half of that (`tests/numerics/test_guidance.py`). The other way is a network that is given the clean
values and their mask (mask tokens) and trained so: exact. Both end with the values to the last
bit: `restore`.
"""

import jax
import jax.numpy as jnp

from mmdjax.diffusion.predictions import NoiseFn, noise_from_clean
from mmdjax.diffusion.sde import SDE


def hold(noise_fn: NoiseFn, sde: SDE, values: jax.Array, mask: jax.Array) -> NoiseFn:
    """The noise prediction whose known entries lead to `values`.

    Args:
      values: (B, ...) clean, read where known. mask: bool, broadcasts to it; True is known.
    """
    known = jnp.where(mask, values, 0.0)

    def held(x, t):
        return jnp.where(mask, noise_from_clean(sde, x, known, t), noise_fn(x, t))

    held.evaluations = getattr(noise_fn, "evaluations", 1)
    return held


def restore(x: jax.Array, values: jax.Array, mask: jax.Array) -> jax.Array:
    """Draws with the known entries exactly as given: at t_min they hold noise of std(t_min)."""
    return jnp.where(mask, values, x)
