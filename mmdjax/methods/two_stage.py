"""The two-stage system and its constant-fill rivals, trained for one seed.

Stage 1: (a) encoders + fusion on complete data; (b) score networks on the frozen, standardised
latents. Stage 2: missing latents are drawn once, then decoder + fusion are trained on completed
sets. `zero` and `mean` go through the same stage 2 with a constant instead of draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmdjax.data.missing import patterns
from mmdjax.methods import losses
from mmdjax.methods.draw import bucket_of, calls, draw_missing, in_batches, make_drawer
from mmdjax.methods.system import Scale, build, filled_valid, others, predict
from mmdjax.training.checkpoints import PhaseStore
from mmdjax.training.loop import fit
from mmdjax.training.step import make_trainer, steps_per_epoch
from mmdjax.types import Batch, Latents

FILLS = ("draws", "zero", "mean")


class Trained(NamedTuple):
    """Everything that prediction needs, and the history of each phase.

    Attributes:
      encoders: parameters; scale: of the latents.
      score: parameters stacked over M.
      complete: {'fusion'} trained on complete data (stage 1a).
      stage2: fill -> {'fusion', and 'decoder' for draws}.
      history: phase -> epoch, train, valid, best, seconds.
    """

    encoders: dict
    scale: Scale
    score: dict
    complete: dict
    stage2: dict[str, dict]
    history: dict[str, dict]


class TwoStage:
    """Compiled functions of one configuration; reused for every seed."""

    def __init__(self, config, splits: Mapping[str, Batch], reporter):
        train = splits["train"]
        self.config, self.splits, self.reporter = config, splits, reporter
        self.modalities = train.modalities
        self.buckets = config.data.length_buckets
        self.modules = build(config, self.modalities)
        self.drawer = make_drawer(self.modules, config.diffusion)
        self.patterns = patterns(len(self.modalities))
        self._encode = jax.jit(self.modules.encoders.apply)
        self._predict = jax.jit(
            lambda params, scale, *rows: predict(self.modules, params, scale, *rows)
        )
        # Compiled: run operation by operation an init takes a second, for every seed.
        self._init = {
            name: jax.jit(module.init) for name, module in self.modules._asdict().items()
            if name != "sde"
        }
        # Lengths are those of the latents: encode once with any parameters to learn them.
        params = self._init_encoders(jax.random.key(0))
        self.bucket = {
            name: bucket_of(self.encode(params, batch).valid, self.buckets)
            for name, batch in splits.items()
        }

        def trainer(loss, settings):
            steps = steps_per_epoch(self.bucket["train"], settings.batch)
            return make_trainer(loss, settings, steps * settings.epochs)

        self._classifier = trainer(losses.classifier_loss(self.modules), config.classifier_training)
        self._score_loss = losses.score_loss(self.modules)
        self._score = trainer(self._score_loss, config.score_training)
        self._score_valid = jax.jit(self._score_loss, static_argnames="frames")
        self._stage2 = {
            fill: trainer(
                losses.completion_loss(self.modules, fill, config.decoder.weight),
                config.stage2_training,
            )
            for fill in FILLS
        }

    # Encoding and prediction -----------------------------------------------------------------

    def _init_encoders(self, key):
        train = self.splits["train"]
        one = ({m: x[:1] for m, x in train.features.items()},)
        return self._init["encoders"](key, *one, {m: v[:1] for m, v in train.valid.items()})

    def encode(self, params, batch: Batch) -> Latents:
        """Latents of a split, not standardised."""
        names, size = self.modalities, self.config.evaluation.batch
        arrays = [batch.features[m] for m in names] + [batch.valid[m] for m in names]

        def part(index):
            def call(*columns):
                features = dict(zip(names, columns[: len(names)], strict=True))
                valid = dict(zip(names, columns[len(names) :], strict=True))
                return self._encode(params, features, valid)[index]

            return in_batches(call, arrays, size)

        return Latents(part(0), part(1), batch.label)

    def predict(self, params, scale: Scale, z, valid, observed) -> np.ndarray:
        """Prediction (R,) from completed latents z (R, M, T, D); valid as of the file."""
        mask = filled_valid(valid, observed)
        bucket, result = bucket_of(mask, self.buckets), np.zeros(len(z), np.float32)
        for index, frames in enumerate(self.buckets):
            rows = np.flatnonzero(bucket == index)
            if rows.size:
                result[rows] = in_batches(
                    lambda *part: self._predict(params, scale, *part),
                    (z[rows][:, :, :frames], mask[rows][:, :, :frames], observed[rows]),
                    self.config.evaluation.batch,
                )
        return result

    def draw(self, trained_score, latents: Latents, observed, ids, draw_index, key, name):
        """`draw_missing` on standardised latents, with a progress bar."""
        batch, coupling = self.config.evaluation.batch, self.drawer.coupling
        total = calls(observed, latents.valid, self.buckets, batch, coupling)
        with self.reporter.phase(name, total) as progress:
            return draw_missing(
                self.drawer,
                trained_score,
                latents.x,
                latents.valid,
                observed,
                ids,
                draw_index,
                key,
                self.buckets,
                batch,
                progress.advance,
            )

    # Training --------------------------------------------------------------------------------

    def train(self, seed: int, folder: Path, may_train: bool = True) -> Trained:
        """Both stages for one seed, resumed from `folder` where they stopped.

        Raises:
          UserError: a loss is not finite, or a phase is unfinished and may not be trained.
        """
        keys = dict(zip(("classifier", "score", *FILLS), range(10), strict=False))
        keys = {name: jax.random.fold_in(jax.random.key(seed), k) for name, k in keys.items()}
        history = {}

        def run(name, trainer, init, data, validate, settings, label):
            fitted = fit(
                label,
                trainer,
                init,
                jax.tree.map(jnp.asarray, data),
                self.bucket["train"],
                self.buckets,
                validate,
                settings,
                keys[name],
                seed,
                PhaseStore(folder / name, self.config.save_seconds),
                self.reporter,
                may_train,
            )
            history[name] = fitted.history
            return fitted.params

        train, valid = self.splits["train"], self.splits["valid"]
        key_encoders, key_fusion = jax.random.split(keys["classifier"])
        encoders = self._init_encoders(key_encoders)
        latents = self.encode(encoders, Batch(*(_first(train, 1))))
        classifier = {
            "encoders": encoders,
            "fusion": self._init["fusion"](key_fusion, latents.x, latents.valid),
        }
        classifier = run(
            "classifier",
            self._classifier,
            classifier,
            {"features": dict(train.features), "valid": dict(train.valid), "label": train.label},
            self._validate_classifier,
            self.config.classifier_training,
            f"seed {seed}: classifier on complete data",
        )

        scale, z = self.standardised_latents(classifier["encoders"])
        score = run(
            "score",
            self._score,
            self._init_score(keys["score"], z["train"]),
            {"z": z["train"].x, "valid": z["train"].valid},
            self._score_validation(z["valid"]),
            self.config.score_training,
            f"seed {seed}: score networks",
        )

        complete = {"fusion": classifier["fusion"]}
        stage2 = {}
        for fill in FILLS:
            data, validate = self._stage2_data(seed, fill, scale, z, score, folder)
            init = dict(complete)
            if fill == "draws":
                init["decoder"] = self._init_decoder(keys["draws"], z["train"])
            stage2[fill] = run(
                fill,
                self._stage2[fill],
                init,
                data,
                validate,
                self.config.stage2_training,
                f"seed {seed}: stage 2, {fill}",
            )
        return Trained(classifier["encoders"], scale, score, complete, stage2, history)

    def standardised_latents(self, encoders) -> tuple[Scale, dict[str, Latents]]:
        """The scale of the training split's valid latent frames, and all splits on it."""
        raw = {name: self.encode(encoders, batch) for name, batch in self.splits.items()}
        mean, std = [], []
        for m in range(len(self.modalities)):
            frames = raw["train"].x[:, m][raw["train"].valid[:, m]].astype(np.float64)
            mean.append(frames.mean(0))
            std.append(frames.std(0))
        scale = Scale(
            np.array(mean, np.float32), np.maximum(np.array(std, np.float32), 1e-3)
        )
        z = {
            name: latents._replace(
                x=np.where(
                    latents.valid[..., None],
                    (latents.x - scale.mean[:, None]) / scale.std[:, None],
                    0.0,
                ).astype(np.float32)
            )
            for name, latents in raw.items()
        }
        return scale, z

    def constant(self, fill: str, scale: Scale) -> np.ndarray:
        """(M, D) standardised latent that stands for a missing frame: raw zero, or the mean."""
        return -scale.mean / scale.std if fill == "zero" else np.zeros_like(scale.mean)

    def _init_score(self, key, latents: Latents):
        ids = others(len(self.modalities))[0]
        x, valid = jnp.asarray(latents.x[:1]), jnp.asarray(latents.valid[:1])
        arguments = (x[:, 0], jnp.ones(1), x[:, ids], ids, valid[:, 0], valid[:, ids])
        keys = jax.random.split(key, len(self.modalities))
        return jax.vmap(lambda k: self._init["score"](k, *arguments))(keys)

    def _init_decoder(self, key, latents: Latents):
        keys = jax.random.split(key, len(self.modalities))
        x, valid = jnp.asarray(latents.x[:1, 0]), jnp.asarray(latents.valid[:1, 0])
        return jax.vmap(lambda k: self._init["decoder"](k, x, valid))(keys)

    # Validation ------------------------------------------------------------------------------

    def _validate_classifier(self, params) -> float:
        latents = self.encode(params["encoders"], self.splits["valid"])
        size, modalities = latents.x.shape[:2]
        shape = (modalities, latents.x.shape[-1])
        identity = Scale(np.zeros(shape, np.float32), np.ones(shape, np.float32))
        observed = np.ones((size, modalities), bool)
        prediction = self.predict(params, identity, latents.x, latents.valid, observed)
        return float(np.abs(prediction - latents.label).mean())

    def _score_validation(self, latents: Latents, repeats: int = 4):
        """Denoising loss on fixed times, noise and conditions."""
        data = {"z": jnp.asarray(latents.x), "valid": jnp.asarray(latents.valid)}
        rows = np.arange(len(latents.label), dtype=np.int32)
        groups = [(rows[self.bucket["valid"] == i], f) for i, f in enumerate(self.buckets)]

        def validate(params) -> float:
            total = 0.0
            for r in range(repeats):
                for index, (part, frames) in enumerate(groups):
                    if part.size:
                        key = jax.random.fold_in(jax.random.key(r), index)
                        weight = np.ones(part.size, np.float32)
                        loss = self._score_valid(params, data, part, weight, key, frames=frames)
                        total += float(loss) * part.size
            return total / (repeats * rows.size)

        return validate

    def _stage2_data(self, seed: int, fill: str, scale: Scale, z, score, folder: Path):
        """Training data of stage 2, and the validation error averaged over all patterns (K = 1)."""
        train, valid = z["train"], z["valid"]
        incomplete = self.patterns[:-1]
        size, rounds = len(train.label), self.config.rounds
        rng = np.random.default_rng([seed, 2])
        # Each utterance meets every incomplete pattern once before any of them again.
        order = np.concatenate(
            [
                rng.permuted(np.tile(np.arange(len(incomplete)), (size, 1)), axis=1)
                for _ in range(-(-rounds // len(incomplete)))
            ],
            axis=1,
        )[:, :rounds]
        observed = incomplete[order]
        everywhere = np.repeat(self.patterns, len(valid.label), axis=0)
        copies = len(self.patterns)
        valid_z, valid_mask = (np.tile(a, (copies, 1, 1, 1)[: a.ndim]) for a in valid[:2])
        data = {"z": train.x, "valid": train.valid, "label": train.label}
        data |= {"observed": observed, "scale": scale}
        if fill == "draws":
            data["fill"], filled = self._cached_draws(
                seed, train, observed, valid, valid_z, valid_mask, everywhere, score, folder
            )
        else:
            constant = self.constant(fill, scale)
            data["fill"] = constant
            filled = np.where(everywhere[..., None, None], valid_z, constant[:, None])
        label = np.tile(valid.label, copies)

        def validate(params) -> float:
            prediction = self.predict(params, scale, filled, valid_mask, everywhere)
            return float(np.abs(prediction - label).mean())

        return data, validate

    def _cached_draws(
        self, seed, train, observed, valid, valid_z, valid_mask, everywhere, score, folder
    ):
        """Draws for training (N, R, M, T, D) and validation, made once and kept in a file."""
        from mmdjax.files import load_arrays, save_arrays

        path = folder / "draws.npz"
        if path.exists():
            return tuple(load_arrays(path)[name] for name in ("train", "valid"))
        size, rounds = observed.shape[:2]
        key = jax.random.fold_in(jax.random.key(seed), 100)
        flat = Latents(np.repeat(train.x, rounds, 0), np.repeat(train.valid, rounds, 0), None)
        drawn, _ = self.draw(
            score,
            flat,
            observed.reshape(size * rounds, -1),
            np.repeat(np.arange(size), rounds),
            np.tile(np.arange(rounds), size),
            jax.random.fold_in(key, 0),
            f"seed {seed}: draws for training",
        )
        drawn = drawn.reshape(size, rounds, *drawn.shape[1:])
        rows = len(valid.label)
        filled, _ = self.draw(
            score,
            Latents(valid_z, valid_mask, None),
            everywhere,
            np.tile(np.arange(rows), len(self.patterns)),
            np.zeros(len(everywhere), int),
            jax.random.fold_in(key, 1),
            f"seed {seed}: draws for validation",
        )
        save_arrays(path, train=drawn, valid=filled)
        return drawn, filled


def _first(batch: Batch, rows: int):
    return (
        {m: x[:rows] for m, x in batch.features.items()},
        {m: v[:rows] for m, v in batch.valid.items()},
        batch.label[:rows],
        batch.id[:rows],
    )
