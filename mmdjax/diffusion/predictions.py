"""What a network may predict of x(t) = alpha x(0) + std z, and the way from each to each.

    noise     z
    score     -z / std, the gradient of log p(x(t))
    clean     x(0); the best prediction is E[x(0) | x(t)] (Tweedie)
    v         (alpha z - std x(0)) / c, c^2 = alpha^2 + std^2 (Salimans & Ho 2022 for VP, c = 1; up
              to its sign the preconditioned output of Karras et al. 2022 for unit data variance)
    velocity  dx/dt along the probability flow, alpha' x(0) + std' z (Lipman et al. 2023)

Each is linear in z given x(t), so predictions convert as their targets do. Samplers take noise.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mmdjax.diffusion.sde import SDE, Real, expand
from mmdjax.errors import choice

NoiseFn = Callable[[jax.Array, Real], jax.Array]  # (x(t) (B, ...), t) -> of the shape of x


def score_from_noise(sde: SDE, x: jax.Array, noise: jax.Array, t: Real) -> jax.Array:
    return -noise / expand(sde.marginal(t)[1], noise)


def noise_from_score(sde: SDE, x: jax.Array, score: jax.Array, t: Real) -> jax.Array:
    return -expand(sde.marginal(t)[1], score) * score


def clean_from_noise(sde: SDE, x: jax.Array, noise: jax.Array, t: Real) -> jax.Array:
    alpha, std = sde.marginal(t)
    return (x - expand(std, x) * noise) / expand(alpha, x)


def noise_from_clean(sde: SDE, x: jax.Array, clean: jax.Array, t: Real) -> jax.Array:
    alpha, std = sde.marginal(t)
    return (x - expand(alpha, x) * clean) / expand(std, x)


def scaled(sde: SDE, x: jax.Array, t: Real) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(x / c, alpha / c, std / c): the state at unit variance, if the data has it."""
    alpha, std = sde.marginal(t)
    c = jnp.sqrt(alpha**2 + std**2)
    return x / expand(c, x), expand(alpha / c, x), expand(std / c, x)


def v_from_noise(sde: SDE, x: jax.Array, noise: jax.Array, t: Real) -> jax.Array:
    x, alpha, std = scaled(sde, x, t)
    return (noise - std * x) / alpha


def noise_from_v(sde: SDE, x: jax.Array, v: jax.Array, t: Real) -> jax.Array:
    x, alpha, std = scaled(sde, x, t)
    return alpha * v + std * x


def _flow(sde: SDE, x: jax.Array, t: Real) -> tuple[jax.Array, jax.Array]:
    """f(x, t) and g^2 / (2 std): the velocity is their sum, the second times the noise."""
    rate = sde.diffusion(t) ** 2 / (2 * sde.marginal(t)[1])
    return sde.drift(x, t), expand(rate, x)


def velocity_from_noise(sde: SDE, x: jax.Array, noise: jax.Array, t: Real) -> jax.Array:
    drift, rate = _flow(sde, x, t)
    return drift + rate * noise


def noise_from_velocity(sde: SDE, x: jax.Array, velocity: jax.Array, t: Real) -> jax.Array:
    drift, rate = _flow(sde, x, t)
    return (velocity - drift) / rate


_PAIRS = {
    "noise": (lambda sde, x, noise, t: noise,) * 2,
    "score": (score_from_noise, noise_from_score),
    "clean": (clean_from_noise, noise_from_clean),
    "v": (v_from_noise, noise_from_v),
    "velocity": (velocity_from_noise, noise_from_velocity),
}
FROM_NOISE = {kind: from_noise for kind, (from_noise, _) in _PAIRS.items()}
TO_NOISE = {kind: to_noise for kind, (_, to_noise) in _PAIRS.items()}


def convert(
    sde: SDE, x: jax.Array, prediction: jax.Array, t: Real, source: str, target: str
) -> jax.Array:
    """A prediction of one kind as another.

    Args:
      x: (B, ...) the state x(t). prediction: of its shape. t: () or (B,).
      source, target: 'noise', 'score', 'clean', 'v' or 'velocity'.

    Raises:
      UserError: unknown kind.
    """
    choice("prediction", source, TO_NOISE)
    choice("prediction", target, FROM_NOISE)
    return FROM_NOISE[target](sde, x, TO_NOISE[source](sde, x, prediction, t), t)


def as_noise(predict: NoiseFn, sde: SDE, source: str) -> NoiseFn:
    """noise_fn(x, t) for samplers from `predict(x, t)` of kind `source`."""

    def noise_fn(x, t):
        return convert(sde, x, predict(x, t), t, source, "noise")

    noise_fn.evaluations = getattr(predict, "evaluations", 1)
    return noise_fn
