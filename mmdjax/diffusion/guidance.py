"""Guidance: noise predictions made of others, for any sampler.

Scales are data: arrays () or (B,), so another scale never compiles again. What a guided prediction
costs stands in its attribute `evaluations`, which `sample` counts.
"""

from collections.abc import Callable

import jax

from mmdjax.diffusion.predictions import NoiseFn, clean_from_noise
from mmdjax.diffusion.sde import SDE, Real, expand


def classifier_free(conditional: NoiseFn, unconditional: NoiseFn, scale: Real) -> NoiseFn:
    """unconditional + scale (conditional - unconditional): Ho & Salimans (2022), eq. 6.

    Their w is scale - 1. Scale 1 is the conditional prediction, 0 the unconditional one. Two
    evaluations. For scale > 1 the draws leave the conditional law, for one that is narrower and
    shifted away from the rest.

    Args:
      conditional, unconditional: noise_fn(x, t).
      scale: () or (B,).
    """

    def noise_fn(x, t):
        base = unconditional(x, t)
        return base + expand(scale, x) * (conditional(x, t) - base)

    predictions = (conditional, unconditional)
    noise_fn.evaluations = sum(getattr(predict, "evaluations", 1) for predict in predictions)
    return noise_fn


def classifier(
    noise_fn: NoiseFn, sde: SDE, log_prob: Callable[[jax.Array, Real], jax.Array], scale: Real
) -> NoiseFn:
    """Dhariwal & Nichol (2021), Algorithm 2: noise - scale std grad log p(y | x(t)).

    With the exact log p(y | x(t)) and scale 1 draws follow the law of x given y.

    Args:
      log_prob: (x (B, ...), t) -> (B,), rows independent; see `through_clean`.
      scale: () or (B,).
    """

    def guided(x, t):
        gradient = jax.grad(lambda x: log_prob(x, t).sum())(x)
        std = sde.marginal(t)[1]
        return noise_fn(x, t) - expand(scale, x) * expand(std, x) * gradient

    guided.evaluations = getattr(noise_fn, "evaluations", 1) + getattr(log_prob, "evaluations", 0)
    return guided


def through_clean(
    noise_fn: NoiseFn, sde: SDE, log_prob: Callable[[jax.Array], jax.Array]
) -> Callable[[jax.Array, Real], jax.Array]:
    """log p(y | x(t)) by way of the predicted x(0): log_prob(E[x(0) | x(t)]).

    For classifiers that know clean data only. An approximation (Chung et al. 2023): the right
    average of p(y | x(0)) over x(0) given x(t) is replaced by its value at the mean. It is coarse:
    at scale 1 draws go too far and spread too little; so tune the scale. One more evaluation,
    differentiated.

    Args:
      log_prob: (x(0) (B, ...)) -> (B,).
    """

    def of_noisy(x, t):
        return log_prob(clean_from_noise(sde, x, noise_fn(x, t), t))

    of_noisy.evaluations = getattr(noise_fn, "evaluations", 1)
    return of_noisy
