"""IMDer: encoders, score networks, decoder and classifier in one stage, sampling at every step.

Source: Wang et al. (2023), "Incomplete Multimodality-Diffused Emotion Recognition". Loss: L1 of the
prediction + lambda (score matching + squared error of what was drawn and decoded), lambda 0.1. As
in its code a whole batch has one pattern, here drawn uniformly; every missing modality is drawn
given the observed ones; no gradient passes through sampling. Latents are not standardised.

`faithful` keeps what its code does and its equations do not say: conditions are noised with the
target's own noise in training and with fresh noise in sampling (`diffusion/conditioning.py`); N
steps go over N - 1 intervals and end at a time below zero; the score loss trains the encoders too,
which it would let collapse. Without it these three are mended.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from mmdjax.data.missing.patterns import patterns
from mmdjax.diffusion import sample
from mmdjax.methods.latent.draw import noise_given
from mmdjax.methods.latent.initial import initial_score, score_shapes
from mmdjax.methods.latent.losses import score_loss, utterance_rows, weighted_mean
from mmdjax.methods.latent.modules import Modules, align, filled_valid, others
from mmdjax.methods.two_stage import Trained, TwoStage
from mmdjax.runtime.compilation import shared
from mmdjax.training.checkpoints import PhaseStore
from mmdjax.training.loop import Phase, fit
from mmdjax.training.step import Source, make_trainer, prepare_step, steps_per_epoch
from mmdjax.types import Latents

STREAM = 500  # of a seed's randomness
PHASE = "imder"


def faithful_grid(sde, steps: int) -> np.ndarray:
    """(steps + 1,) times of IMDer's code: `steps` steps of 1 / (steps - 1) of the way to t_min."""
    times = np.linspace(sde.t_max, sde.t_min, steps)
    return np.append(times, 2 * times[-1] - times[-2]).astype(np.float32)


def draw_pattern(modules: Modules, diffusion, grid, score_params, x, valid, observed, key):
    """Draws of every modality that a batch's pattern lacks; observed ones stay zero.

    Args:
      diffusion: `mmdjax.config.Diffusion`; grid: (steps + 1,) times.
      x: (B, M, T, D); valid: (B, M, T). observed: (M,) bool, data: nothing compiles anew for it.
    """
    batch, modalities = x.shape[:2]
    x, valid, observed = jnp.asarray(x), jnp.asarray(valid), jnp.asarray(observed)
    missing_first, count = jnp.argsort(observed), (~observed).sum()
    mask = filled_valid(valid, jnp.broadcast_to(observed, (batch, modalities)))

    def one(target, slot):
        own = jax.tree.map(lambda a: a[target], score_params)
        ids = jnp.asarray(others(modalities))[target]
        shown = valid[:, ids] & observed[ids][None, :, None]
        keys = jax.random.split(jax.random.fold_in(key, slot), (batch, 1))
        rows = (x[:, ids], jnp.broadcast_to(ids, (batch, modalities - 1)), shown)
        noise_fn = noise_given(modules, diffusion.conditioning, own, *rows, mask[:, target], keys)
        solve = functools.partial(sample, **diffusion.options())
        y, _ = solve(keys[:, 0], x.shape[2:], noise_fn, modules.sde, grid, diffusion.sampler)
        return jnp.where(mask[:, target][..., None], y, 0.0)

    def fill(drawn, slot):
        """A loop, so that the sampler is one program however many are missing."""
        target, nothing = missing_first[slot], jnp.zeros_like(x[:, 0])
        filled = jax.lax.cond(slot < count, one, lambda *_: nothing, target, slot)
        here = (slot < count) & (jnp.arange(modalities) == target)
        return jnp.where(here[:, None, None], filled[:, None], drawn), None

    return jax.lax.scan(fill, jnp.zeros_like(x), jnp.arange(modalities - 1))[0]


def imder_loss(modules: Modules, diffusion, weight: float, faithful: bool):
    """The loss of the only stage.

    Args:
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
        observed = jnp.broadcast_to(observed, x.shape[:2])
        filled = jnp.where(observed[..., None, None], x, jax.lax.stop_gradient(drawn))
        mask = filled_valid(valid, observed)
        filled = align(modules.decoder, params.get("decoder"), filled, mask, observed)
        prediction = modules.fusion.apply(
            params["fusion"],
            jnp.where(mask[..., None], filled, 0.0),
            mask,
            deterministic=False,
            rngs={"dropout": keys[4]},
        )
        task = weighted_mean(jnp.abs(prediction - data["label"]), weight_of_row)
        counted = (mask & valid & ~observed[..., None])[..., None]
        error = jnp.where(counted, (filled - fixed) ** 2, 0.0).sum((1, 2, 3))
        rebuilt = error / jnp.maximum(counted.sum((1, 2, 3)) * x.shape[-1], 1)
        return task + weight * (scores + weighted_mean(rebuilt, weight_of_row))

    return loss


shared_loss = shared(imder_loss)


class Imder:
    """The compiled training step of a system; `train` runs it for a seed, as `Stages` does."""

    prepared = PHASE

    def __init__(self, system: TwoStage, known: dict | None = None):
        """known: as in `Stages`; one stage has nothing to share."""
        self.system, config = system, system.config
        drawer = system.drawer
        if config.imder.faithful:
            grid = faithful_grid(system.modules.sde, len(drawer.grid) - 1)
            system.drawer = drawer._replace(grid=grid)
        loss = shared_loss(
            system.modules,
            config.diffusion,
            config.imder.weight,
            config.imder.faithful,
        )
        steps = steps_per_epoch(system.bucket["train"], config.imder_training.batch)
        total = steps * config.imder_training.epochs
        self._trainer = make_trainer(loss, config.imder_training, total, config.mesh)

    def prepare(self) -> None:
        """Starts compiling the step."""
        system = self.system
        key = jax.eval_shape(lambda: jax.random.key(0))
        score = score_shapes(system.modules.score)
        initial_score(system.modules.score).prepare(key)
        params = jax.eval_shape(self._initial_others, key) | {"score": score}
        settings = system.config.imder_training
        for index, frames in enumerate(system.buckets):
            if (system.bucket["train"] == index).any():
                prepare_step(self._trainer, params, self._source(), settings, frames)

    def _source(self) -> Source:
        rows = utterance_rows(self.system.splits["train"])
        return Source(rows, {"grid": self.system.drawer.grid})

    def train(self, seed: int, place: Callable[[str], Path], may_train: bool = True) -> Trained:
        """For one seed, resumed where it stopped.

        Args:
          place: phase -> its folder.

        Raises:
          UserError: the loss is not finite, or training is unfinished and not allowed.
        """
        system = self.system
        init, key = jax.random.split(jax.random.fold_in(jax.random.key(seed), STREAM))
        bucket, name = system.bucket["train"], f"seed {seed}: IMDer"
        fitted = fit(
            Phase(name, bucket, system.buckets, key, (seed, STREAM)),
            self._trainer,
            self._initial(init),
            lambda: (self._source(), self._validate),
            system.config.imder_training,
            PhaseStore(place(PHASE), system.config.save_seconds, system.config.keep_last),
            system.reporter,
            may_train,
        )
        params, scale = fitted.params, system.identity_scale()
        stage2 = {"draws": _predictor(params)}
        history = {"one stage": fitted.history}
        return Trained(params["encoders"], scale, params["score"], None, stage2, history)

    def _initial(self, key) -> dict:
        score = self.system.initial_score(jax.random.split(key, 3)[1])
        return self._initial_others(key) | {"score": score}

    def _initial_others(self, key) -> dict:
        keys, system = jax.random.split(key, 3), self.system
        decoder = {"decoder": system.initial_decoder(keys[2])} if system.config.decoder.use else {}
        return system.initial_classifier(keys[0]) | decoder

    def _validate(self, params) -> float:
        """Mean absolute error on validation data: utterance i under pattern i mod P, one draw."""
        system, valid = self.system, self.system.splits["valid"]
        latents: Latents = system.encode(params["encoders"], valid)
        ids = np.arange(len(valid.label))
        observed = system.patterns[ids % len(system.patterns)]
        drawn, _ = system.draw(
            params["score"],
            latents,
            observed,
            ids,
            np.zeros((len(ids), 1), int),
            jax.random.key(STREAM),
            "IMDer: validation",
        )
        rows = (drawn[:, 0], latents.valid, observed)
        prediction = system.predict(_predictor(params), system.identity_scale(), *rows)
        return float(np.abs(prediction - valid.label).mean())


def _predictor(params) -> dict:
    """What predicts from draws."""
    return {name: params[name] for name in ("fusion", "decoder") if name in params}
