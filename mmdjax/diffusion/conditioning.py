"""How the condition of a conditional score is shown to the network, in training and in sampling.

    clean        as it is (the default). The score is that of x(t) given the condition: right.
    independent  noised to the target's time with noise of its own.
    shared       noised in training with the target's very noise, in sampling with fresh noise: what
                 IMDer does. Training and sampling see different laws.

With the last two no number of steps reaches the conditional law, even with the exact score: for a
true correlation of 0.6 Euler-Maruyama ends at 0.36 and, with IMDer's VE, at -0.39, with VP at -0.31
(`tests/numerics/test_conditioning.py`).
They are here to reproduce published systems.
"""

import jax
import jax.numpy as jnp

from mmdjax.diffusion.sde import SDE, Real, perturb
from mmdjax.errors import choice

MODES = ("clean", "independent", "shared")


def in_training(
    mode: str, sde: SDE, condition: jax.Array, t: jax.Array, noise: jax.Array, key: jax.Array
) -> jax.Array:
    """The condition that the network is trained with.

    Args:
      condition: (B, ...); t: (B,).
      noise: the target's, broadcasts to condition ('shared').
      key: for noise of its own ('independent').

    Raises:
      UserError: unknown mode.
    """
    choice("conditioning", mode, MODES)
    if mode == "clean":
        return condition
    if mode == "independent":
        noise = jax.random.normal(key, condition.shape, condition.dtype)
    return perturb(sde, condition, jnp.broadcast_to(noise, condition.shape), t)


def in_sampling(mode: str, sde: SDE, condition: jax.Array, t: Real, keys: jax.Array) -> jax.Array:
    """The condition at time t of sampling: fresh noise at every time for both noisy modes.

    The noise is a function of a row's key and of t, so that predictions stay functions of (x, t).

    Args:
      condition: (B, ...); t: () or (B,); keys: (B,) typed keys.

    Raises:
      UserError: unknown mode.
    """
    choice("conditioning", mode, MODES)
    if mode == "clean":
        return condition
    stamps = jax.lax.bitcast_convert_type(jnp.asarray(t, jnp.float32), jnp.uint32)

    def normals(key, stamp):
        key = jax.random.fold_in(key, stamp)
        return jax.random.normal(key, condition.shape[1:], condition.dtype)

    noise = jax.vmap(normals)(keys, jnp.broadcast_to(stamps, keys.shape))
    return perturb(sde, condition, noise, t)
