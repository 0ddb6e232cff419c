"""DPM-Solver++ 2M whose steps are corrected by weights that were learned for one network.

    x' = step of dpmpp_2m + c_0 x + sum_j c_j D_j        D_j the clean predictions so far

For two to four evaluations, of which no general rule is the best one (LD3, Tong et al. 2025; S4S,
Frankel et al. 2025). It has no name in the registry: nothing is drawn by it without weights.
"""

import jax
import jax.numpy as jnp
import numpy as np

from mmdjax.diffusion.predictions import NoiseFn, clean_from_noise
from mmdjax.diffusion.samplers import multistep
from mmdjax.diffusion.samplers.dpmpp import advance_constant, half_ratio
from mmdjax.diffusion.samplers.registry import Sampler
from mmdjax.diffusion.sde import SDE, expand, log_snr


def corrected(sde: SDE, noise_fn: NoiseFn, weights: jax.Array | np.ndarray) -> Sampler:
    """Returns the sampler; weights: (steps, 1 + steps), c_0 and c_j of every step."""
    weights = jnp.asarray(weights)

    def step(x, history, t, t_next, z):
        now = log_snr(sde, t)
        clean = clean_from_noise(sde, x, noise_fn(x, t), t)
        c = expand(half_ratio(sde, history, t, t_next), x)
        after = advance_constant(sde, x, t, t_next, (1 + c) * clean - c * history.values[0])
        number, history = history.count, multistep.push(history, now, clean)
        own = weights[number].astype(x.dtype)
        return after + own[0] * x + jnp.tensordot(own[1:], history.values, axes=1), history

    return multistep.sampler(step, lambda t: log_snr(sde, t), size=len(weights), order=2)
