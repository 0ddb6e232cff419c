"""IMDer: encoders, score networks, decoder and classifier in one stage, sampling at every step.

Source: Wang et al. (2023), "Incomplete Multimodality-Diffused Emotion Recognition". Loss: L1 of the
prediction + lambda (score matching + squared error of what was drawn and decoded), lambda 0.1. As
in its code a whole batch has one pattern, here drawn uniformly; every missing modality is drawn
given the observed ones; no gradient passes through sampling. Latents are not standardised. A row
that lacks what the batch's pattern shows has zeros there.

`faithful` keeps what its code does and its equations do not say: conditions are noised with the
target's own noise in training and with fresh noise in sampling (`diffusion/conditioning.py`); N
steps go over N - 1 intervals and end at a time below zero; the score loss trains the encoders too,
which it would let collapse. Without it these three are mended.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from mmdjax.data.missing.patterns import patterns
from mmdjax.diffusion.sde import SDE
from mmdjax.errors import UserError
from mmdjax.methods.latent import students
from mmdjax.methods.latent.base import DrawingMethod
from mmdjax.methods.latent.cover import filled_valid
from mmdjax.methods.latent.draw import Drawer, draw_target
from mmdjax.methods.latent.initial import initial_score, score_shapes
from mmdjax.methods.latent.losses import score_loss, utterance_rows, weighted_mean
from mmdjax.methods.latent.modules import Modules, align, others
from mmdjax.methods.method import SOLVER, Phase, register, stream
from mmdjax.runtime.compilation import shared
from mmdjax.runtime.settings import field
from mmdjax.training.step import Loss, Source
from mmdjax.types import Params, hidden

if TYPE_CHECKING:
    from mmdjax.methods.settings import Diffusion
    from mmdjax.tasks import Task

READS = ("latents", "fusion", "score", "diffusion", "decoder", "imder", "imder_training")


def faithful_grid(sde: SDE, steps: int) -> np.ndarray:
    """(steps + 1,) times of IMDer's code: `steps` steps of 1 / (steps - 1) of the way to t_min."""
    times = np.linspace(sde.t_max, sde.t_min, steps)
    return np.append(times, 2 * times[-1] - times[-2]).astype(np.float32)


def draw_pattern(
    modules: Modules,
    diffusion: Diffusion,
    grid: jax.Array,
    score_params: Params,
    x: jax.Array,
    valid: jax.Array,
    observed: jax.Array,
    key: jax.Array,
) -> jax.Array:
    """Draws of every modality that a batch's pattern lacks; observed ones stay zero.

    Args:
      diffusion: `mmdjax.config.Diffusion`; grid: (steps + 1,) times.
      x: (B, M, T, D); valid: (B, M, T). observed: (M,) bool, data: nothing compiles anew for it.
    """
    batch, modalities = x.shape[:2]
    x, valid, observed = jnp.asarray(x), jnp.asarray(valid), jnp.asarray(observed)
    missing_first, count = jnp.argsort(observed), (~observed).sum()
    mask = filled_valid(valid, jnp.broadcast_to(observed, (batch, modalities)))

    def draw(target, slot):
        ids = jnp.asarray(others(modalities))[target]
        drawn, _ = draw_target(
            modules,
            diffusion,
            jax.tree.map(lambda a: a[target], score_params),
            condition=x[:, ids],
            condition_id=jnp.broadcast_to(ids, (batch, modalities - 1)),
            mask=mask[:, target],
            condition_mask=valid[:, ids] & observed[ids][None, :, None],
            keys=jax.random.split(jax.random.fold_in(key, slot), (batch, 1)),
            grid=grid,
            guidance=diffusion.guidance,
        )
        return drawn[:, 0]

    def fill(drawn, slot):
        """A loop, so that the sampler is one program however many are missing."""
        target, nothing = missing_first[slot], jnp.zeros_like(x[:, 0])
        filled = jax.lax.cond(slot < count, draw, lambda *_: nothing, target, slot)
        here = (slot < count) & (jnp.arange(modalities) == target)
        return jnp.where(here[:, None, None], filled[:, None], drawn), None

    return jax.lax.scan(fill, jnp.zeros_like(x), jnp.arange(modalities - 1))[0]


def imder_loss(
    modules: Modules, task: Task, diffusion: Diffusion, weight: float, faithful: bool
) -> Loss:
    """Return the loss of the only stage.

    Args:
      task: of `mmdjax.tasks`.
      weight: lambda.

    data: see `losses.classifier_loss`, and 'grid', (steps + 1,) times. params: {'encoders',
    'score', 'decoder', 'fusion'}.
    """
    matching = score_loss(modules, diffusion.weighting, diffusion.conditioning)

    def loss(params, data, weight_of_row, key, frames):
        keys = jax.random.split(key, 5)
        x, valid = modules.encoders.apply(
            params["encoders"],
            data["features"],
            data["valid"],
            deterministic=False,
            rngs={"dropout": keys[0]},
        )
        x, valid = x[:, :, :frames], valid[:, :, :frames]
        everything = patterns(x.shape[1])
        observed = jnp.asarray(everything)[jax.random.randint(keys[1], (), 0, len(everything))]
        fixed = jax.lax.stop_gradient(x)
        scores = matching(
            params["score"],
            {"z": x if faithful else fixed, "valid": valid},
            weight_of_row,
            keys[2],
            frames,
        )
        drawn = draw_pattern(
            modules,
            diffusion,
            data["grid"],
            jax.lax.stop_gradient(params["score"]),
            fixed,
            valid,
            observed,
            keys[3],
        )
        observed = hidden(observed, valid.any(-1))
        filled = jnp.where(observed[..., None, None], x, jax.lax.stop_gradient(drawn))
        mask = filled_valid(valid, observed)
        filled = align(modules.decoder, params.get("decoder"), filled, mask, observed)
        output = modules.fusion.apply(
            params["fusion"],
            jnp.where(mask[..., None], filled, 0.0),
            mask,
            deterministic=False,
            observed=observed,
            rngs={"dropout": keys[4]},
        )
        total = task.mean_loss(output, data["label"], weight_of_row)
        counted = (mask & valid & ~observed[..., None])[..., None]
        error = jnp.where(counted, (filled - fixed) ** 2, 0.0).sum((1, 2, 3))
        rebuilt = error / jnp.maximum(counted.sum((1, 2, 3)) * x.shape[-1], 1)
        return total + weight * (scores + weighted_mean(rebuilt, weight_of_row))

    return loss


shared_loss = shared(imder_loss)


@dataclasses.dataclass(frozen=True)
class Settings:
    """IMDer's one stage.

    Attributes:
      faithful: keep what its code does and its equations do not say, see above.
      weight: lambda of score matching and reconstruction beside the task's loss.
    """

    faithful: bool = False
    weight: float = field(0.1, low=0)


@register("imder", label="IMDer", published="IMDer", options=Settings)
class Imder(DrawingMethod):
    """Encoders, score networks, decoder and classifier learned at once."""

    gaps = standardises = reconstructs = False
    heads = None
    predicts = "imder"
    completes = ("imder", "imder", *SOLVER)

    @classmethod
    def check(cls, config: Any) -> None:
        """Raise `UserError` for what the one stage does not learn."""
        super().check(config)
        students.refuse(config, cls.name)
        if config.diffusion.frame_gaps or config.training_rate:
            raise UserError(
                f"config.diffusion.frame_gaps = {config.diffusion.frame_gaps}, training_rate = "
                f"{config.training_rate} with method 'imder'; allowed: 0 for both"
            )

    @functools.cached_property
    def drawer(self) -> Drawer:
        """The compiled draw; the faithful one draws on the times of IMDer's code."""
        drawer = super().drawer
        if not self.config.imder.faithful:
            return drawer
        return drawer._replace(grid=faithful_grid(self.modules.sde, len(drawer.grid) - 1))

    @functools.cached_property
    def phases(self) -> tuple[Phase, ...]:
        """The only stage."""
        config = self.config
        loss = shared_loss(
            self.modules, self.task, config.diffusion, config.imder.weight, config.imder.faithful
        )
        rows = utterance_rows(self.splits["train"])
        source = Source(rows, {"grid": self.drawer.grid})

        def expects():
            key = jax.eval_shape(lambda: jax.random.key(0))
            shapes = jax.eval_shape(self._initial_others, key)
            initial_score(self.modules.score).prepare(key)
            return shapes | {"score": score_shapes(self.modules.score)}, source

        phase = Phase(
            name="imder",
            title="one stage",
            reads=READS,
            settings=config.imder_training,
            loss=loss,
            init=lambda key, params: self._initial(key),
            load=lambda params, seed, place: (source, self._validate),
            bucket=self.bucket["train"],
            buckets=self.buckets,
            expects=expects,
        )
        return (phase,)

    def encoders(self, params: Params) -> Params:
        """Return the encoders' parameters."""
        return params["imder"]["encoders"]

    def score(self, params: Params) -> Params:
        """Return the score networks' parameters."""
        return params["imder"]["score"]

    def _initial(self, key: jax.Array) -> dict:
        score = self.initial_score(jax.random.split(key, 3)[1])
        return self._initial_others(key) | {"score": score}

    def _initial_others(self, key: jax.Array) -> dict:
        keys = jax.random.split(key, 3)
        decoder = {"decoder": self.initial_decoder(keys[2])} if self.config.decoder.use else {}
        return self.initial_classifier(keys[0]) | decoder

    def _validate(self, params: Params) -> float:
        """Mean error on validation data: utterance i under pattern i mod P, one draw."""
        valid = self.splits["valid"]
        latents = self.encode(params["encoders"], valid)
        ids = np.arange(len(valid.label))
        observed = hidden(self.patterns[ids % len(self.patterns)], latents.present)
        drawn, _ = self.draw_latents(
            params["score"],
            latents,
            observed,
            ids,
            np.zeros((len(ids), 1), int),
            jax.random.key(stream("imder validation")),
            "IMDer: validation",
        )
        predictor = {k: v for k, v in params.items() if k in ("fusion", "decoder")}
        prediction = self.predict_latents(
            predictor, self.identity_scale(), drawn[:, 0], latents.valid, observed
        )
        return self.task.mean_error(prediction, valid.label)
