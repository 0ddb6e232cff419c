"""Training the two-stage system and its constant-fill rivals for one seed.

Stage 1: (a) encoders + fusion on complete data; (b) score networks on the frozen, standardised
latents. Stage 2: missing latents are drawn once, then decoder + fusion are trained on completed
sets. `zero` and `mean` go through the same stage 2 with a constant instead of draws.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmdjax.methods.latent import completion, losses
from mmdjax.methods.latent.gap_losses import gap_score_loss
from mmdjax.methods.latent.initial import initial_score, score_shapes
from mmdjax.methods.latent.losses import utterance_rows
from mmdjax.methods.latent.modules import Scale
from mmdjax.methods.two_stage import Trained, TwoStage
from mmdjax.runtime.compilation import AheadOfTime, shapes_of, shared
from mmdjax.training.checkpoints import PhaseStore
from mmdjax.training.loop import Phase, fit
from mmdjax.training.step import Source, Trainer, make_trainer, prepare_step, steps_per_epoch
from mmdjax.types import Latents

# Which part of a seed's randomness each phase owns.
STREAMS = ("classifier", "score", *losses.FILLS)
VALIDATION_REPEATS = 4
VALIDATION_ROWS = 256  # a call: bounds memory, whatever the size of the split


class StageOne(NamedTuple):
    """What stage 1 leaves: see `Trained`; z: split -> standardised latents."""

    encoders: dict
    scale: Scale
    z: dict[str, Latents]
    score: dict | None
    complete: dict
    history: dict[str, dict]


def _keys(seed: int, name: str):
    """(2,) keys of a phase: of its initialisation and of its training."""
    return jax.random.split(jax.random.fold_in(jax.random.key(seed), STREAMS.index(name)))


@shared
def validation_loss(score_loss) -> AheadOfTime:
    return AheadOfTime(score_loss, static_argnames="frames")


class Stages:
    """The compiled training steps of a system; `train` runs them for a seed.

    Attributes:
      prepared: the phase whose programs `prepare` makes.
    """

    prepared = "score"

    def __init__(self, system: TwoStage, known: dict | None = None):
        """known: folders -> `StageOne`; systems that are given the same one restore it once."""
        self.system, config, modules = system, system.config, system.modules
        self._known = known

        def trainer(loss, settings) -> Trainer:
            steps = steps_per_epoch(system.bucket["train"], settings.batch)
            return make_trainer(loss, settings, steps * settings.epochs, config.mesh)

        diffusion = config.diffusion
        weighting, unconditional = diffusion.weighting, diffusion.unconditional
        if diffusion.frame_gaps:
            score_loss = gap_score_loss(modules, weighting, unconditional, diffusion.frame_gaps)
        else:
            settings = (weighting, diffusion.conditioning, unconditional)
            score_loss = losses.score_loss(modules, *settings)
        self._score_valid = validation_loss(score_loss)
        self._trainers = {
            "classifier": trainer(
                losses.classifier_loss(modules.encoders, modules.fusion), config.classifier_training
            ),
            "score": trainer(score_loss, config.score_training),
        } | {
            fill: trainer(
                losses.completion_loss(
                    modules.decoder, modules.fusion, fill, config.decoder.weight
                ),
                config.stage2_training,
            )
            for fill in config.fills
        }

    def prepare(self) -> None:
        """Starts compiling what trains the score networks, while the classifier is trained."""
        system, config = self.system, self.system.config
        if "draws" not in config.fills:
            return
        key, shape = jax.eval_shape(lambda: jax.random.key(0)), jax.ShapeDtypeStruct
        params = score_shapes(system.modules.score)
        initial_score(system.modules.score).prepare(key)
        sizes = (len(system.modalities), config.latents.frames, config.latents.channels)
        encoders = shapes_of(jax.eval_shape(system.init_encoders, key))
        for split in ("train", "valid"):
            rows = len(system.splits[split])
            z = shape((rows, *sizes), jnp.float32), shape((rows, *sizes[:2]), bool)
            source = self._score_source(encoders, system.identity_scale(), split, Latents(*z, 0))
            counts = np.bincount(system.bucket[split], minlength=len(system.buckets))
            for count, length in zip(counts.tolist(), system.buckets, strict=True):
                if split == "train" and count:
                    settings = config.score_training
                    prepare_step(self._trainers["score"], params, source, settings, length)
                    continue
                for size in {min(count, VALIDATION_ROWS), count % VALIDATION_ROWS} - {0}:
                    cut = lambda a, size=size: shape((size, *a.shape[1:]), a.dtype)  # noqa: E731
                    part = jax.tree.map(cut, source.rows) | shapes_of(source.common)
                    weight = shape((size,), jnp.float32)
                    self._score_valid.prepare(params, part, weight, key, frames=length)

    def train(self, seed: int, place: Callable[[str], Path], may_train: bool = True) -> Trained:
        """Both stages for one seed, resumed where they stopped.

        Args:
          place: phase -> its folder.

        Raises:
          UserError: a loss is not finite, or a phase is unfinished and may not be trained.
        """
        system, config = self.system, self.system.config
        known = {} if self._known is None else self._known
        key = place("score"), "draws" in config.fills
        if key not in known:
            known[key] = self.stage_one(seed, place, may_train)
        one = known[key]
        stage2, history = {}, dict(one.history)
        for fill in config.fills:
            init = dict(one.complete)
            if fill == "draws" and config.decoder.use:
                init["decoder"] = system.initial_decoder(_keys(seed, "draws")[0])
            data = (fill, one.scale, one.z, one.score, place("completions"))
            load = functools.partial(completion.training_sets, system, seed, *data)
            title, settings = f"stage 2, {fill}", config.stage2_training
            fitted = self._fit(seed, place, may_train, fill, title, init, load, settings)
            stage2[fill], history[title] = fitted.params, fitted.history
        return Trained(one.encoders, one.scale, one.score, one.complete, stage2, history)

    def stage_one(
        self, seed: int, place: Callable[[str], Path], may_train: bool = True
    ) -> StageOne:
        """Encoders and classifier on complete data, then score networks on their latents; none
        where nothing is drawn."""
        system, config = self.system, self.system.config
        history, source = {}, Source(utterance_rows(system.splits["train"]))
        title = "classifier on complete data"
        classifier = self._fit(
            seed,
            place,
            may_train,
            "classifier",
            title,
            system.initial_classifier(_keys(seed, "classifier")[0]),
            lambda: (source, self._validate_classifier),
            config.classifier_training,
        )
        history[title] = classifier.history
        encoders, complete = classifier.params["encoders"], {"fusion": classifier.params["fusion"]}
        scale, z = system.standardised_latents(encoders)
        if "draws" not in config.fills:
            return StageOne(encoders, scale, z, None, complete, history)
        title = "score networks"

        def of_split(split: str) -> Source:
            return self._score_source(encoders, scale, split, z[split])

        score = self._fit(
            seed,
            place,
            may_train,
            "score",
            title,
            system.initial_score(_keys(seed, "score")[0]),
            lambda: (of_split("train"), self._score_validation(of_split("valid"))),
            config.score_training,
        )
        history[title] = score.history
        return StageOne(encoders, scale, z, score.params, complete, history)

    def _fit(self, seed, place, may_train, name, title, init, load, settings):
        """One phase, resumed from its own store in `place(name)`."""
        system = self.system
        key, order = _keys(seed, name)[1], (seed, STREAMS.index(name))
        bucket = system.bucket["train"]
        return fit(
            Phase(f"seed {seed}: {title}", bucket, system.buckets, key, order),
            self._trainers[name],
            init,
            load,
            settings,
            PhaseStore(place(name), system.config.save_seconds, system.config.keep_last),
            system.reporter,
            may_train,
        )

    def _validate_classifier(self, params) -> float:
        """Mean absolute error on complete validation data."""
        latents = self.system.encode(params["encoders"], self.system.splits["valid"])
        observed = np.ones(latents.x.shape[:2], bool)
        rows = (latents.x, latents.valid, observed)
        prediction = self.system.predict(params, self.system.identity_scale(), *rows)
        return float(np.abs(prediction - latents.label).mean())

    def _score_source(self, encoders, scale: Scale, split: str, z: Latents) -> Source:
        """What the score loss reads of a split: latents, or to drop frames features."""
        if not self.system.config.diffusion.frame_gaps:
            return Source({"z": z.x, "valid": z.valid})
        rows = utterance_rows(self.system.splits[split])
        del rows["label"]
        return Source(rows, {"encoders": encoders, "scale": scale})

    def _score_validation(self, source: Source):
        """The denoising loss on fixed times, noise and conditions."""
        bucket = self.system.bucket["valid"]
        size = len(bucket)

        def validate(params) -> float:
            total = 0.0
            for repeat in range(VALIDATION_REPEATS):
                for index, frames in enumerate(self.system.buckets):
                    everything = np.flatnonzero(bucket == index).astype(np.int32)
                    for start in range(0, everything.size, VALIDATION_ROWS):
                        rows = everything[start : start + VALIDATION_ROWS]
                        stream = index + start  # start is 0 or beyond every index
                        key = jax.random.fold_in(jax.random.key(repeat), stream)
                        arguments = (source.at(rows), np.ones(rows.size, np.float32), key)
                        loss = self._score_valid(params, *arguments, frames=frames)
                        total += float(loss) * rows.size
            return total / (VALIDATION_REPEATS * size)

        return validate
