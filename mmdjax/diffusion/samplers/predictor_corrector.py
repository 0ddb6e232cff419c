"""Predictor-corrector: Song et al. (2021), Algorithm 1 with the correctors of Algorithms 4 and 5.

Predictor Euler-Maruyama, then `correctors` (J) Langevin steps at the new time; 1 + J evaluations a
step; weak order 1. The Langevin step follows from the signal-to-noise ratio r: epsilon = 2 (r |z| /
|score|)^2, with std for |z| / |score|, which it is for the score -z / std of x(t) given x(0): never
more than Song's, and less where the data is smooth. With the norms of the very draw, epsilon would
depend on the state, and the corrector would leave another law invariant (density p / epsilon); with
norms averaged over a batch, rows would depend on each other. epsilon never exceeds the predictor's
own variance g^2 |dt|, which leaves practical grids as they are and makes the bias of the discrete
Langevin steps, of order epsilon, vanish with dt.
"""

import jax
import jax.numpy as jnp

from mmdjax.diffusion.predictions import NoiseFn, score_from_noise
from mmdjax.diffusion.samplers.euler_maruyama import euler_step
from mmdjax.diffusion.samplers.registry import Sampler, real, register, whole
from mmdjax.diffusion.sde import SDE


def langevin_step(
    sde: SDE, noise_fn: NoiseFn, x: jax.Array, t: jax.Array, z: jax.Array, epsilon: jax.Array
) -> jax.Array:
    """x + epsilon score + sqrt(2 epsilon) z: leaves the law at t invariant as epsilon -> 0."""
    score = score_from_noise(sde, x, noise_fn(x, t), t)
    return x + epsilon * score + jnp.sqrt(2 * epsilon) * z


@register("predictor_corrector", explicit=True)
def predictor_corrector(
    sde: SDE, noise_fn: NoiseFn, correctors: int = 1, snr: float = 0.16
) -> Sampler:
    whole("predictor_corrector", "correctors", correctors, 1)
    real("predictor_corrector", "snr", snr, 0, 10, "0 to 10")

    def step(x, t, t_next, z):
        x = euler_step(sde, noise_fn(x, t), x, t, t_next, z[0])
        std = sde.marginal(t_next)[1]
        epsilon = jnp.minimum(2 * (snr * std) ** 2, sde.diffusion(t_next) ** 2 * (t - t_next))
        for j in range(correctors):
            x = langevin_step(sde, noise_fn, x, t_next, z[1 + j], epsilon)
        return x

    evaluations = 1 + correctors
    return Sampler(init=lambda x, t: x, step=step, nfe=evaluations, order=1, normals=evaluations)
