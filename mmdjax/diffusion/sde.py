"""Forward SDEs dx = f(x, t) dt + g(t) dw, and what follows from their marginals.

x(t) given x(0) is N(alpha(t) x(0), std(t)^2 I). Time runs from 0 (data) to 1 (noise).
Times are scalars or (B,); `expand` puts a (B,) time in front of a (B, ...) state. Everything that
is not the definition of one SDE is derived below, once, for all of them.
"""

import dataclasses
import math
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

Real = jax.Array | np.ndarray | float  # () or (B,): a time, alpha, std or sigma


class SDE(Protocol):
    """What a forward process has to say.

    Attributes:
      prior_std: std of the Gaussian at t_max that sampling starts from.
      t_min: sampling ends here and training starts here, since std(0) = 0.
      t_max: sampling starts here; below 1 where f and g are infinite at 1.
      bounded: f and g stay moderate up to t_max, so that explicit steps of the SDE make sense.
    """

    prior_std: float
    t_min: float
    t_max: float
    bounded: bool

    def marginal(self, t: Real) -> tuple[jax.Array, jax.Array]:
        """(alpha, std) at time t."""

    def drift(self, x: jax.Array, t: Real) -> jax.Array:
        """f(x, t), linear in x."""

    def diffusion(self, t: Real) -> jax.Array:
        """g(t)."""

    def time(self, sigma: Real) -> jax.Array:
        """The t at which std / alpha = sigma."""


class _Preserving:
    """dx = -1/2 beta(t) x dt + sqrt(beta(t)) dw: a subclass defines `beta`."""

    def drift(self, x: jax.Array, t: Real) -> jax.Array:
        return -0.5 * expand(self.beta(t), x) * x

    def diffusion(self, t: Real) -> jax.Array:
        return jnp.sqrt(self.beta(t))


@dataclasses.dataclass(frozen=True)
class VP(_Preserving):
    """Variance preserving SDE of Song et al. (2021), eq. 11; thesis eq. 5.7-5.9.

    Its beta is linear: beta(t) = beta_min + t (beta_max - beta_min).
    """

    beta_min: float = 0.1
    beta_max: float = 20.0
    t_min: float = 1e-3
    t_max: float = 1.0
    prior_std: float = 1.0
    bounded: bool = True

    def beta(self, t: Real) -> Real:
        return self.beta_min + t * (self.beta_max - self.beta_min)

    def log_alpha(self, t: Real) -> Real:
        return -0.25 * t**2 * (self.beta_max - self.beta_min) - 0.5 * t * self.beta_min

    def marginal(self, t: Real) -> tuple[jax.Array, jax.Array]:
        log_alpha = self.log_alpha(t)
        return jnp.exp(log_alpha), jnp.sqrt(-jnp.expm1(2 * log_alpha))

    def time(self, sigma: Real) -> jax.Array:
        return self._time_of_decay(jnp.log1p(sigma**2))

    def _time_of_decay(self, decay: jax.Array) -> jax.Array:
        """t at which -2 log alpha = decay: the root of slope t^2 + 2 beta_min t = 2 decay."""
        slope = self.beta_max - self.beta_min
        return 2 * decay / (self.beta_min + jnp.sqrt(self.beta_min**2 + 2 * slope * decay))


@dataclasses.dataclass(frozen=True)
class SubVP(VP):
    """Sub-VP SDE of Song et al. (2021), eq. 12: the drift of VP, std = 1 - alpha^2."""

    def marginal(self, t: Real) -> tuple[jax.Array, jax.Array]:
        log_alpha = self.log_alpha(t)
        return jnp.exp(log_alpha), -jnp.expm1(2 * log_alpha)

    def diffusion(self, t: Real) -> jax.Array:
        return jnp.sqrt(-self.beta(t) * jnp.expm1(4 * self.log_alpha(t)))

    def time(self, sigma: Real) -> jax.Array:
        # sigma = 1 / alpha - alpha = 2 sinh(-log alpha).
        return self._time_of_decay(2 * jnp.arcsinh(sigma / 2))


@dataclasses.dataclass(frozen=True)
class VPCosine(_Preserving):
    """VP with the cosine schedule of Nichol & Dhariwal (2021), eq. 17.

    alpha = cos(angle(t)) / cos(angle(0)), angle = pi/2 (t + s) / (1 + s). beta is infinite at 1, so
    sampling starts at 0.9946, as in the DPM-Solver paper (Lu et al. 2022, appendix D.4).
    """

    s: float = 0.008
    t_min: float = 1e-3
    t_max: float = 0.9946
    prior_std: float = 1.0
    bounded: bool = True

    def _angle(self, t: Real) -> Real:
        return 0.5 * math.pi * (t + self.s) / (1 + self.s)

    def marginal(self, t: Real) -> tuple[jax.Array, jax.Array]:
        # 1 - alpha^2 = sin(a - a0) sin(a + a0) / cos(a0)^2, without cancellation at t = 0.
        angle, start = self._angle(t), self._angle(0.0)
        gap = 0.5 * math.pi * t / (1 + self.s)
        variance = jnp.sin(gap) * jnp.sin(angle + start)
        return jnp.cos(angle) / math.cos(start), jnp.sqrt(variance) / math.cos(start)

    def beta(self, t: Real) -> jax.Array:
        return math.pi / (1 + self.s) * jnp.tan(self._angle(t))

    def time(self, sigma: Real) -> jax.Array:
        # tan(angle) of cos(angle) = cos(start) / sqrt(1 + sigma^2): arccos would cancel near 0.
        start = self._angle(0.0)
        angle = jnp.arctan(jnp.sqrt(sigma**2 + math.sin(start) ** 2) / math.cos(start))
        return 2 / math.pi * (1 + self.s) * angle - self.s


class _Exploding:
    """alpha = 1 and no drift: a subclass defines `std`, its `diffusion` and its `time`."""

    @property
    def prior_std(self) -> float:
        return self.sigma_max

    def marginal(self, t: Real) -> tuple[jax.Array, jax.Array]:
        return jnp.ones_like(t), self.std(t)

    def drift(self, x: jax.Array, t: Real) -> jax.Array:
        return jnp.zeros_like(x)


@dataclasses.dataclass(frozen=True)
class VE(_Exploding):
    """Variance exploding SDE of IMDer and of the thesis (eq. 5.4, 5.5): dx = 25^t dw.

    std^2 = (sigma^(2 t) - 1) / (2 log sigma); the prior's std is std(1) = 9.85. At t = 1 data are
    still there, a tenth as large as the noise, and the prior N(0, 9.85^2) does not have their mean:
    an error that no number of evaluations removes. `samplers.loop.matched` does, to first order.
    """

    sigma: float = 25.0
    t_min: float = 1e-4
    t_max: float = 1.0
    bounded: bool = True

    @property
    def prior_std(self) -> float:
        log = math.log(self.sigma)
        return math.sqrt(math.expm1(2 * self.t_max * log) / (2 * log))

    def std(self, t: Real) -> jax.Array:
        log = math.log(self.sigma)
        return jnp.sqrt(jnp.expm1(2 * log * t) / (2 * log))

    def diffusion(self, t: Real) -> jax.Array:
        return jnp.exp(math.log(self.sigma) * t)

    def time(self, sigma: Real) -> jax.Array:
        log = math.log(self.sigma)
        return jnp.log1p(2 * log * sigma**2) / (2 * log)


@dataclasses.dataclass(frozen=True)
class VEGeometric(_Exploding):
    """Variance exploding SDE of Song et al. (2021), eq. 30: a geometric sequence of noise levels.

    std = sigma_min (sigma_max / sigma_min)^t. std(0) = sigma_min, so t_min is 0 in all but name.
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0
    t_min: float = 1e-5
    t_max: float = 1.0
    bounded: bool = True

    @property
    def _log_ratio(self) -> float:
        return math.log(self.sigma_max / self.sigma_min)

    def std(self, t: Real) -> jax.Array:
        return self.sigma_min * jnp.exp(self._log_ratio * t)

    def diffusion(self, t: Real) -> jax.Array:
        return math.sqrt(2 * self._log_ratio) * self.std(t)

    def time(self, sigma: Real) -> jax.Array:
        return jnp.log(sigma / self.sigma_min) / self._log_ratio


@dataclasses.dataclass(frozen=True)
class EDM(_Exploding):
    """The process of Karras et al. (2022): alpha = 1, noise levels 0.002 to 80.

    Their time is std itself; here it is warped to (0, 1] by their own schedule (eq. 5, rho = 7), so
    that uniform times are sensible for training and sampling. Laws and paths are the same.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0
    t_min: float = 1e-5
    t_max: float = 1.0
    bounded: bool = True

    @property
    def _ends(self) -> tuple[float, float]:
        return self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)

    def _root(self, t: Real) -> Real:
        """std^(1 / rho), linear in t."""
        low, high = self._ends
        return low + t * (high - low)

    def std(self, t: Real) -> Real:
        return self._root(t) ** self.rho

    def diffusion(self, t: Real) -> jax.Array:
        # g^2 = (std^2)' = 2 std std'.
        low, high = self._ends
        return jnp.sqrt(2 * self.rho * (high - low) * self._root(t) ** (2 * self.rho - 1))

    def time(self, sigma: Real) -> Real:
        low, high = self._ends
        return (sigma ** (1 / self.rho) - low) / (high - low)


@dataclasses.dataclass(frozen=True)
class RectifiedFlow:
    """The linear interpolant x(t) = (1 - t) x(0) + t z (Liu et al. 2023; Lipman et al. 2023).

    The SDE with these marginals has f = -x / (1 - t), g^2 = 2 t / (1 - t): infinite at 1, so
    sampling starts at t_max and methods that step f and g themselves do not support it.
    """

    t_min: float = 1e-3
    t_max: float = 0.999
    bounded: bool = False

    @property
    def prior_std(self) -> float:
        return self.t_max

    def marginal(self, t: Real) -> tuple[Real, Real]:
        return 1 - t, t * jnp.ones_like(t)

    def drift(self, x: jax.Array, t: Real) -> jax.Array:
        return -x / expand(1 - t, x)

    def diffusion(self, t: Real) -> jax.Array:
        return jnp.sqrt(2 * t / (1 - t))

    def time(self, sigma: Real) -> Real:
        return sigma / (1 + sigma)


REGISTRY: dict[str, type] = {
    "vp": VP,
    "vp_cosine": VPCosine,
    "sub_vp": SubVP,
    "ve": VE,
    "ve_geometric": VEGeometric,
    "edm": EDM,
    "rectified_flow": RectifiedFlow,
}


def name_of(sde: SDE) -> str:
    """The registered name, or the class' own for one that is not registered."""
    return next((k for k, kind in REGISTRY.items() if kind is type(sde)), type(sde).__name__)


def expand(t: Real, x: jax.Array) -> jax.Array:
    """Shapes a time-like () or (B,) so that it multiplies x (B, ...)."""
    t = jnp.asarray(t, x.dtype)
    return t.reshape(t.shape + (1,) * (x.ndim - t.ndim))


def perturb(sde: SDE, x0: jax.Array, noise: jax.Array, t: Real) -> jax.Array:
    """x(t) = alpha x(0) + std noise; x0, noise (B, ...), t () or (B,), as everywhere below."""
    alpha, std = sde.marginal(t)
    return expand(alpha, x0) * x0 + expand(std, x0) * noise


def log_snr(sde: SDE, t: Real) -> jax.Array:
    """log(alpha / std): half the logarithm of the signal-to-noise ratio (Lu et al. 2022)."""
    alpha, std = sde.marginal(t)
    return jnp.log(alpha / std)


def transition(sde: SDE, s: Real, t: Real) -> tuple[Real, jax.Array]:
    """(scale, std) of x(t) given x(s), s < t: x(t) = scale x(s) + std z."""
    (alpha_s, std_s), (alpha_t, std_t) = sde.marginal(s), sde.marginal(t)
    scale = alpha_t / alpha_s
    return scale, jnp.sqrt(jnp.maximum(std_t**2 - (scale * std_s) ** 2, 0))


def reverse_drift(sde: SDE, x: jax.Array, score: jax.Array, t: Real) -> jax.Array:
    """f - g^2 score: drift of the reverse-time SDE (Anderson 1982), to be used with dt < 0."""
    return sde.drift(x, t) - expand(sde.diffusion(t), x) ** 2 * score


def probability_flow(sde: SDE, x: jax.Array, score: jax.Array, t: Real) -> jax.Array:
    """f - 1/2 g^2 score: dx/dt of the ODE with the SDE's marginals (Song et al. 2021, eq. 13)."""
    return sde.drift(x, t) - 0.5 * expand(sde.diffusion(t), x) ** 2 * score
