"""The phases of the two-stage system, each of which several methods may share.

Stage 1: (a) encoders and fusion on complete data; (b) score networks on the frozen, standardised
latents. Stage 2: missing latents are completed, once, and decoder and fusion are trained on them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmdjax.data.stored import taken
from mmdjax.methods.latent import completion, losses, students
from mmdjax.methods.latent.gap_losses import given_gaps
from mmdjax.methods.latent.initial import score_shapes
from mmdjax.methods.latent.modules import Scale, networks_alone
from mmdjax.methods.latent.space import Space
from mmdjax.methods.method import LEARNED, SOLVER, Phase
from mmdjax.methods.validation import prepare, score_validation
from mmdjax.networks.encoders import Reconstruction
from mmdjax.runtime.compilation import shapes_of
from mmdjax.training.step import Source
from mmdjax.types import Latents, Params

# What the phases read of a config, those before them included.
CLASSIFIER = ("latents", "fusion", "classifier_training")
SCORE = (*CLASSIFIER, "score", "score_training", *LEARNED)
MOST_NOISE = 3.0  # times the config's
SETS = ("rounds", "training_rate")
COMPLETIONS = (*SCORE, *SOLVER, *SETS)
STUDENT = (*SCORE, "diffusion.grid", "diffusion.grid_options", "diffusion.student")
STUDENT += ("student", "student_training")
DRAWS = (*COMPLETIONS, "decoder", "stage2_training")
CONSTANT = (*CLASSIFIER, *SETS, "stage2_training")


def of_name(space: Space, name: str) -> Phase:
    """Return a phase: 'classifier', 'score', or stage 2 under 'draws', 'zero' or 'mean'."""
    if name == "classifier":
        return classifier(space)
    return score(space) if name == "score" else stage_2(space, name)


def learned(space: Space) -> tuple[Phase, ...]:
    """Return the phases of the config's student, which follow the score networks; () for none."""
    rounds = students.rounds(space.modules, space.config)
    return tuple(student(space, each) for each in rounds)


def classifier(space: Space) -> Phase:
    """Stage 1a: encoders and fusion on what labelled utterances have; where some have no label,
    encoders on all."""
    valid, rows = space.splits["valid"], space.labelled
    common, reconstruction = {}, None
    if space.reconstructs:
        reconstruction = Reconstruction(space.modalities)
        weight = space.config.latents.reconstruction
        share = len(rows) / len(space.splits["train"])
        common = {"labelled": np.float32(share), "weight": np.float32(weight)}
        rows = np.arange(len(space.splits["train"]))
    source = Source(losses.utterance_rows(taken(space.splits["train"], rows)), common)

    def validate(params) -> float:
        latents = space.encode(params["encoders"], valid)
        prediction = space.predict_latents(
            params, space.identity_scale(), latents.x, latents.valid, latents.present
        )
        return space.task.mean_error(prediction, latents.label)

    return Phase(
        name="classifier",
        title="stage 1, classifier",
        reads=CLASSIFIER,
        settings=space.config.classifier_training,
        loss=losses.classifier_loss(
            space.modules.encoders,
            space.modules.fusion,
            space.task,
            reconstruction,
            _feature_noise(space),
            space.heads,
            space.config.latents.unimodal,
        ),
        init=lambda key, params: space.initial_classifier(key),
        load=lambda params, seed, place: (source, validate),
        bucket=space.bucket["train"][rows],
        buckets=space.buckets,
        expects=lambda: (_classifier_shapes(space), source),
    )


def score(space: Space) -> Phase:
    """Stage 1b: a score network for each modality, on the latents of the frozen encoders."""
    diffusion = space.config.diffusion
    settings = (diffusion.weighting, diffusion.conditioning, diffusion.unconditional)
    return on_latents(
        space,
        "score",
        "score networks",
        SCORE,
        space.config.score_training,
        losses.matching(networks_alone(space.modules), *settings),
        lambda key, params: space.initial_score(key),
    )


def student(space: Space, learned: students.Round) -> Phase:
    """A round of few-step networks, which start from those of an earlier phase."""
    settings = space.config.student_training
    if learned.steps:
        each = settings.passes * max(1, len(space.splits["train"]) // settings.batch)
        fewer = min(settings.epochs, max(1, learned.steps // each))
        settings = dataclasses.replace(settings, epochs=fewer)
    return on_latents(
        space,
        learned.name,
        learned.title,
        STUDENT,
        settings,
        learned.error,
        lambda key, params: learned.begin(params[learned.start]),
        learned.start if learned.taught else "",
        learned.begin,
    )


def on_latents(
    space: Space,
    name: str,
    title: str,
    reads: tuple[str, ...],
    settings: Any,
    error: Callable,
    init: Callable,
    teacher: Any = "",
    begin: Any = None,
) -> Phase:
    """Return a `Phase` of networks of single modalities on the latents of the frozen encoders.

    Args:
      name, title, reads, settings, init: of `Phase`.
      error: of `losses.given_others`.
      teacher: the phase whose parameters the error wants, too; '' for none.
      begin: (score networks' parameters) -> what is trained; None for those themselves.
    """
    # Validation is without noise on conditions, as draws are.
    loss, held_out_loss = (_of_error(space, error, n) for n in (space.config.latents.noise, 0.0))

    def source(params, encoders, scale: Scale, split: str, z: Latents) -> Source:
        made = _score_source(space, encoders, scale, split, z)
        if not teacher:
            return made
        return Source(made.rows, made.common | {"teacher": params[teacher]})

    def load(params, seed, place):
        encoders = params["classifier"]["encoders"]
        scale, z = space.standardised(encoders)
        train, valid = (
            source(params, encoders, scale, split, z[split]) for split in ("train", "valid")
        )
        held_out = score_validation(held_out_loss, valid, space.bucket["valid"], space.buckets)
        return train, held_out

    def expects():
        key = jax.eval_shape(lambda: jax.random.key(0))
        encoders = shapes_of(jax.eval_shape(space.init_encoders, key))
        networks, sizes = score_shapes(space.modules.score), _sizes(space)
        params = jax.eval_shape(begin, networks) if begin else networks

        def shapes(split: str) -> Source:
            shape, rows = jax.ShapeDtypeStruct, len(space.splits[split])
            z = shape((rows, *sizes), jnp.float32), shape((rows, *sizes[:2]), bool)
            about = (encoders, space.identity_scale(), split, Latents(*z, 0))
            return source({teacher: networks}, *about)

        prepare(held_out_loss, params, shapes("valid"), space.bucket["valid"], space.buckets)
        return params, shapes("train")

    return Phase(
        name=name,
        title=title,
        reads=reads,
        settings=settings,
        loss=loss,
        init=init,
        load=load,
        bucket=space.bucket["train"],
        buckets=space.buckets,
        expects=expects,
    )


def stage_2(space: Space, fill: str) -> Phase:
    """Stage 2 under missing modalities, which are drawn, or filled with a constant.

    Args:
      fill: 'draws', 'zero' or 'mean'.
    """
    config, draws = space.config, fill == "draws"
    drawn_by = STUDENT if draws and config.diffusion.student else ()
    loss = losses.completion_loss(
        space.modules.decoder,
        space.modules.fusion,
        space.task,
        "draws" if draws else "constant",
        config.decoder.weight if draws else 0.0,
        config.latents.noise,
    )

    def init(key, params):
        # From the classifier of complete data; the decoder is new.
        start = {"fusion": params["classifier"]["fusion"]}
        if draws and config.decoder.use:
            start["decoder"] = space.initial_decoder(key)
        return start

    def load(params, seed, place):
        scale, z = space.standardised(params["classifier"]["encoders"])
        return completion.training_sets(
            space,
            seed,
            scale,
            z,
            space.score(params),
            None if draws else space.constant(fill, scale),
            place(completion.NAME, (*COMPLETIONS, *drawn_by)) if draws else None,
        )

    def expects():
        key, shape = jax.eval_shape(lambda: jax.random.key(0)), jax.ShapeDtypeStruct
        params = {"fusion": _classifier_shapes(space)["fusion"]}
        if draws and config.decoder.use:
            params["decoder"] = jax.eval_shape(space.initial_decoder, key)
        rows, (m, t, d) = len(space.labelled), _sizes(space)
        label = space.splits["train"].label
        columns = {
            "z": shape((rows, m, t, d), jnp.float32),
            "valid": shape((rows, m, t), bool),
            "label": shape((rows, *label.shape[1:]), label.dtype),
            "observed": shape((rows, config.rounds, m), bool),
        }
        common = {"scale": shapes_of(space.identity_scale())}
        if draws:
            columns["fill"] = shape((rows, config.rounds, m, t, d), jnp.float32)
        else:
            common["fill"] = shape((m, d), jnp.float32)
        return params, Source(columns, common)

    return Phase(
        name="draws" if draws else fill,
        title=f"stage 2, {fill}",
        reads=(*DRAWS, *drawn_by) if draws else CONSTANT,
        settings=config.stage2_training,
        loss=loss,
        init=init,
        load=load,
        bucket=space.bucket["train"][space.labelled],
        buckets=space.buckets,
        expects=expects,
    )


def _classifier_shapes(space: Space) -> Params:
    return jax.eval_shape(space.initial_classifier, jax.eval_shape(lambda: jax.random.key(0)))


def _sizes(space: Space) -> tuple[int, int, int]:
    latents = space.config.latents
    return len(space.modalities), latents.frames, latents.channels


def _feature_noise(space: Space) -> tuple[float, ...]:
    """Return the deviation of each modality's noise, () for none.

    Noise on features acts as a ridge penalty (Bishop 1995), of which a modality needs more the more
    columns it has for each utterance.
    """
    noise, train = space.config.latents.noise, space.splits["train"]
    if not noise:
        return ()
    columns = np.array([train.features[m].shape[2] for m in space.modalities])
    share = columns / np.maximum(train.present.sum(0), 1)
    return tuple((noise * np.minimum(np.sqrt(1 + 4 * share), MOST_NOISE)).tolist())


def _of_error(space: Space, error: Callable, noise: float) -> Callable:
    gaps = space.config.diffusion.frame_gaps
    if gaps:
        return given_gaps(space.modules, error, gaps, noise)
    return losses.given_others(error, noise)


def _score_source(space: Space, encoders: Any, scale: Scale, split: str, z: Latents) -> Source:
    """What the score loss reads of a split: latents, or features whose frames it drops."""
    if not space.config.diffusion.frame_gaps:
        return Source({"z": z.x, "valid": z.valid})
    rows = losses.utterance_rows(space.splits[split])
    del rows["label"]
    return Source(rows, {"encoders": encoders, "scale": scale})
