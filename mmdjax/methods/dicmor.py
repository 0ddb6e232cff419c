"""DiCMoR: flows carry the observed modalities' latents to the missing one's distribution.

Source: Wang, Cui & Li, "Distribution-Consistent Modal Recovering for Incomplete Multimodal
Learning" (ICCV 2023). Each modality's latent frames have a flow F_m to one common Gaussian for each
class of label. A missing modality is made by its own flow, backwards, from an observed one's code:

    x_m = F_m^-1(F_n(x_n)),    L = L_task + 0.1 (NLL + ||decoded x_m - x_m||^2).

Where several modalities are observed their transfers are merged by a 1x1 convolution. A residual
channel-attention decoder and the fusion follow, as in the two-stage system. Encoders are those of
its first stage, and stay as they are.

Mended: the public forward pass leaves out the activation normalisation and the invertible
convolution, so that half of the channels are copied (`faithful=True` does so, too); it needs the
label to complete; a whole batch has one availability pattern; couplings have no lower bound
(`networks/flow.py`). Chosen here, where the paper is silent: NLL and error are means over frames,
channels and modalities; the merging convolution starts at the mean of the transfers; the class of a
number is the nearest of seven that are evenly spaced in its range, as of sentiment; several labels
add up their Gaussians' means. Utterances without a label are left out.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from mmdjax.errors import UserError
from mmdjax.methods.batches import in_batches
from mmdjax.methods.latent import phases
from mmdjax.methods.latent.base import LatentMethod
from mmdjax.methods.latent.completion import labelled_rows, under
from mmdjax.methods.latent.cover import filled_valid
from mmdjax.methods.latent.modules import Modules, align, others, raw
from mmdjax.methods.method import Completion, Phase, register
from mmdjax.methods.vector.base import random_patterns, weighted_mean
from mmdjax.networks import flow
from mmdjax.runtime.compilation import shared
from mmdjax.runtime.on_host import OnHost
from mmdjax.runtime.settings import field
from mmdjax.training.settings import Training
from mmdjax.training.step import Loss, Source
from mmdjax.types import Latents, Observed, Params

if TYPE_CHECKING:
    from mmdjax.tasks import Task

CLASSES = 7  # of a number


@dataclasses.dataclass(frozen=True)
class Settings:
    """Options of DiCMoR.

    Attributes:
      steps: of each flow. hidden: width of their couplings.
      faithful: half of the channels are copied, as in the published code.
      weight: of likelihood and reconstruction beside the task's loss.
      training: how flows, decoder and fusion are trained, after the first stage.
    """

    steps: int = field(32, low=1)
    hidden: int = field(64, low=1)
    faithful: bool = False
    weight: float = field(0.1, low=0)
    training: Training = Training(epochs=40, batch=128, warmup=20)  # noqa: RUF009


def memberships(task: Task, label: np.ndarray) -> np.ndarray:
    """Return the classes of labels, (N, G) float32 of 0 and 1."""
    if task.kind == "classification":
        return np.eye(task.outputs, dtype=np.float32)[label.astype(int)]
    if task.kind == "multi_label":
        return label.astype(np.float32)
    share = (label.reshape(len(label), -1) - task.low) / (task.high - task.low)
    parts = np.rint(share * (CLASSES - 1)).astype(int)
    return np.eye(CLASSES, dtype=np.float32)[parts].reshape(len(label), -1)


def coded(
    step: flow.Step, params: Params, z: jax.Array, known: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return the codes (B, M, T, D) of latents, zeros where not known (B, M, T), and the logarithm
    (B, M, T) of the flows' determinants."""
    z = jnp.where(known[..., None], z, 0.0)
    return jax.vmap(functools.partial(flow.forward, step), (0, 1), 1)(params["flow"], z)


def transferred(
    step: flow.Step, params: Params, z: jax.Array, seen: jax.Array, code: jax.Array | None = None
) -> jax.Array:
    """Return latents (B, M, T, D) whose unseen frames are made from seen ones of other modalities,
    0 where there are none.

    Args:
      params: 'flow', of flows stacked over M, and 'merge' (M, M - 1, D, D).
      z: (B, M, T, D). seen: (B, M, T) bool.
      code: of `coded`, where it is known already; unseen ones are not read.
    """
    seen = jnp.asarray(seen)
    code = coded(step, params, z, seen)[0] if code is None else code

    def of_target(params, merge, own, ids):
        # What is not asked for is not inverted: where it overflowed, its gradient would be NaN.
        there = (seen[:, ids] & ~own[:, None])[..., None]
        made = flow.inverse(step, params, jnp.where(there, code[:, ids], 0.0))
        made = jnp.where(there, made, 0.0)
        count = there.sum(1)
        mean = made.sum(1) / jnp.maximum(count, 1)
        return jnp.where(count > 1, mean + jnp.einsum("bmtd,mde->bte", made, merge), mean)

    ids = jnp.asarray(others(z.shape[1]))
    made = jax.vmap(of_target, (0, 0, 1, 0), 1)(params["flow"], params["merge"], seen, ids)
    return jnp.where(seen[..., None], z, made)


def likelihood_loss(
    params: Params, code: jax.Array, volume: jax.Array, valid: jax.Array, member: jax.Array
) -> jax.Array:
    """Return minus the log-likelihood (B,) of latents, each frame, channel and modality alike.

    Args:
      params: 'mean' and 'log_scale' (G, D) of the classes' Gaussians.
      code, volume: of `coded`. valid: (B, M, T) bool. member: (B, G), see `memberships`.
    """
    mean, log_scale = ((member @ params[n])[:, None, None] for n in ("mean", "log_scale"))
    standard = (code - mean) * jnp.exp(-log_scale)
    density = -0.5 * (standard**2 + jnp.log(2 * jnp.pi)) - log_scale
    each = jnp.where(valid, -(density.sum(-1) + volume) / code.shape[-1], 0.0)
    return each.sum((1, 2)) / jnp.maximum(valid.sum((1, 2)), 1)


@shared
def loss_of(
    modules: Modules,
    step: flow.Step,
    task: Task,
    beside_weight: float,
    patterns: tuple[tuple[bool, ...], ...],
) -> Loss:
    """Return the loss under a random availability pattern of each utterance.

    Args:
      modules: of which decoder and fusion are used.
      patterns: availability patterns as nested tuples of bool.

    data: 'z', 'valid', 'label', 'member' of rows, and 'scale'.
    """

    def loss(params, data, weight, key, frames):
        key_pattern, key_dropout = jax.random.split(key)
        z, valid = data["z"][:, :, :frames], data["valid"][:, :, :frames]
        observed = random_patterns(key_pattern, np.array(patterns), valid.any(-1))
        code, volume = coded(step, params["flows"], z, valid)
        filled = transferred(step, params["flows"], z, valid & observed[..., None], code)
        mask = filled_valid(valid, observed)
        filled = align(modules.decoder, params.get("decoder"), filled, mask, observed)
        output = modules.fusion.apply(
            params["fusion"],
            raw(filled, mask, data["scale"]),
            mask,
            deterministic=False,
            observed=observed,
            rngs={"dropout": key_dropout},
        )
        counted = (mask & valid & ~observed[..., None])[..., None]
        error = jnp.where(counted, (filled - z) ** 2, 0.0).sum((1, 2, 3))
        error = error / jnp.maximum(counted.sum((1, 2, 3)) * z.shape[-1], 1)
        beside = error + likelihood_loss(params["flows"], code, volume, valid, data["member"])
        total = task.mean_loss(output, data["label"], weight)
        return total + beside_weight * weighted_mean(beside, weight)

    return loss


@shared
def initial_flows(step: flow.Step, modalities: int, steps: int, classes: int) -> OnHost:
    """Return key -> the parameters of `transferred` and `likelihood_loss`."""

    def init(key):
        keys = jax.random.split(key, modalities + 1)
        channels = step.channels
        return {
            "flow": jax.vmap(lambda k: flow.init(step, steps, k))(keys[1:]),
            "merge": jnp.zeros((modalities, modalities - 1, channels, channels)),
            # Classes that start apart, so that which is which is not learned from nothing.
            "mean": 0.1 * jax.random.normal(keys[0], (classes, channels)),
            "log_scale": jnp.zeros((classes, channels)),
        }

    return OnHost(init)


@shared
def compiled(step: flow.Step) -> Callable[..., jax.Array]:
    """Return `transferred`, compiled."""
    return jax.jit(functools.partial(transferred, step))


@register("dicmor", label="DiCMoR", published="DiCMoR", options=Settings)
class DistributionConsistent(LatentMethod):
    """Missing latents are observed ones, carried over by flows."""

    serving = "mmdjax.methods.latent.flow_served"
    predicts = "dicmor"
    completes = ("dicmor", "dicmor")

    @classmethod
    def check(cls, config: Any) -> None:
        """Raise `UserError` for latents of one channel, which no coupling can halve."""
        super().check(config)
        if config.latents.channels == 1:
            raise UserError("config.latents.channels = 1 with method 'dicmor'; allowed: at least 2")

    @classmethod
    def step_of(cls, config: Any) -> flow.Step:
        """Return one step of the flows."""
        options = config.dicmor
        return flow.Step(config.latents.channels, options.hidden, not options.faithful)

    @functools.cached_property
    def step(self) -> flow.Step:
        """One step of the flows."""
        return self.step_of(self.config)

    @functools.cached_property
    def phases(self) -> tuple[Phase, ...]:
        """The first stage of the two-stage system, then flows, decoder and fusion."""
        config = self.config
        modules = self.modules._replace(encoders=None, score=None, sde=None)
        patterns = tuple(map(tuple, self.patterns.tolist()))
        rows = self.labelled
        last = Phase(
            name=self.name,
            title=self.label,
            reads=(*phases.CLASSIFIER, "decoder", "dicmor"),
            settings=config.dicmor.training,
            loss=loss_of(modules, self.step, self.task, config.dicmor.weight, patterns),
            init=self._initial,
            load=lambda params, seed, place: self._load(params),
            bucket=self.bucket["train"][rows],
            buckets=self.buckets,
        )
        return phases.of_name(self, "classifier"), last

    def _initial(self, key: jax.Array, params: Params) -> dict:
        keys = jax.random.split(key)
        classes = self.task.outputs * (CLASSES if self.task.kind == "regression" else 1)
        sizes = (len(self.modalities), self.config.dicmor.steps, classes)
        start = {"fusion": params["classifier"]["fusion"]}
        if self.config.decoder.use:
            start["decoder"] = self.initial_decoder(keys[1])
        return start | {"flows": initial_flows(self.step, *sizes)(keys[0])}

    def _load(self, params: Params) -> tuple[Source, Callable]:
        scale, z = self.standardised(params["classifier"]["encoders"])
        train, valid = (labelled_rows(z[split]) for split in ("train", "valid"))
        rows = {"z": train.x, "valid": train.valid, "label": train.label}
        rows["member"] = memberships(self.task, np.asarray(train.label))
        every, observed = under(self.patterns, valid)

        def validate(current) -> float:
            filled = self._completed(current["flows"], every.x, observed[..., None] & every.valid)
            prediction = self.predict_latents(current, scale, filled, every.valid, observed)
            return self.task.mean_error(prediction, every.label)

        return Source(rows, {"scale": scale}), validate

    def _completed(self, flows: Params, x: np.ndarray, seen: np.ndarray) -> np.ndarray:
        run = compiled(self.step)
        parts = {name: flows[name] for name in ("flow", "merge")}
        return in_batches(lambda *rows: run(parts, *rows), (x, seen), self.config.evaluation.batch)

    def served_with(self, params: Params) -> dict:
        """Return the flows; see `latent.served`."""
        return {"flows": {name: params[self.name]["flows"][name] for name in ("flow", "merge")}}

    def complete_latents(
        self,
        params: Params,
        z: Latents,
        given: np.ndarray,
        observed: Observed,
        draws: int,
        key: jax.Array,
        title: str,
        rows: np.ndarray | None = None,
    ) -> Completion:
        """Carry observed latents over to where nothing is observed."""
        seen = given[..., None] if given.ndim == 3 else given > 0
        seen = np.logical_and(seen, z.valid[None])
        x = np.broadcast_to(z.x, (len(seen), *z.x.shape))
        flat = (x.reshape(-1, *x.shape[2:]), seen.reshape(-1, *seen.shape[2:]))
        filled = self._completed(params[self.name]["flows"], *flat)
        return Completion(filled.reshape(x.shape)[:, :, None], observed, 0, rows)
