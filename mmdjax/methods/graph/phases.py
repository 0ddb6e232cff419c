"""The phases of GSDNet, each of which several methods may share.

The paper trains everything at once (eq. 18, 20), which would differentiate through the sampler or
feed untrained samples to the classifier. Here the score networks come first (L_s of eq. 11), then
what is missing is drawn, and D_X, D_Lambda and the GCN are trained on the draws with L_pred +
beta L_rec (eq. 17, 20). The GCN starts from the one that was trained on complete data.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from mmdjax.methods.graph.initial import initial_gcn, initial_refine, initial_score
from mmdjax.methods.graph.losses import completion_loss, energy_loss, score_loss, training_mask
from mmdjax.methods.graph.programs import Sets
from mmdjax.methods.graph.system import System
from mmdjax.methods.latent.draw import grid_of
from mmdjax.methods.method import SOLVER, Phase, stream
from mmdjax.methods.validation import prepare, score_validation
from mmdjax.runtime.compilation import AheadOfTime
from mmdjax.training.step import Source
from mmdjax.types import Params, known_labels

CLASSIFIER_NAME, SCORE_NAME = "gsdnet_classifier", "gsdnet_score"
STAGE_2_NAME, MEAN_NAME = "gsdnet_stage2", "gsdnet_mean"

# What the phases read of a config, those before them included. Neither complete data nor constant
# fills read `graph.variant`: they have the graphs of `variants.PLAIN`.
GROUPED = tuple(
    f"graph.{name}"
    for name in ("lengths", "components", "past", "future", "scale", "across", "basis")
)
HEAD = tuple(f"graph.{name}" for name in ("gcn_width", "gcn_layers", "kernel", "dropout"))
CLASSIFIER = (*GROUPED, *HEAD, "classifier_training")
MEAN = (*CLASSIFIER, "stage2_training")
NETWORKS = tuple(
    f"score.{name}"
    for name in ("width", "layers", "heads", "mlp", "time_features", "fourier_scale")
)
SCORE = (
    *GROUPED,
    *NETWORKS,
    "graph.variant",
    "graph.law",
    "graph.spectrum_width",
    "graph.edge_width",
    "diffusion.sde",
    "diffusion.weighting",
    "score_training",
)
STUDENT = (
    *SCORE,
    "diffusion.grid",
    "diffusion.grid_options",
    "diffusion.student",
    "student",
    "student_training",
)
STAGE_2 = (
    *SCORE,
    *CLASSIFIER,
    *SOLVER,
    "rounds",
    "graph.refine_width",
    "graph.beta",
    "stage2_training",
)


def of_name(plain: System, system: System, name: str) -> Phase:
    """Return a phase.

    Args:
      plain: the system of `variants.PLAIN`, which phases without draws have. system: the config's.
    """
    if name in (CLASSIFIER_NAME, MEAN_NAME):
        return (classifier if name == CLASSIFIER_NAME else mean)(plain)
    return (score if name == SCORE_NAME else stage_2)(system)


def classifier(plain: System) -> Phase:
    """Train the GCN on complete data."""

    def load(params, seed, place):
        sets = plain.constant_sets(*plain.everything("valid"))
        return _rows(plain), functools.partial(plain.error, sets=sets)

    return Phase(
        name=CLASSIFIER_NAME,
        title="GCN on complete data",
        reads=CLASSIFIER,
        settings=plain.config.classifier_training,
        loss=completion_loss(plain.predictor, plain.task, "complete"),
        init=lambda key, params: initial_gcn(plain, key),
        load=load,
        bucket=_lengths(plain)[0],
        buckets=plain.grouped.lengths,
    )


def mean(plain: System) -> Phase:
    """Train the GCN under gaps that are filled with the training mean."""

    def load(params, seed, place):
        sets = plain.constant_sets(*plain.under("valid", plain.validation_masks()))
        return _rows(plain), functools.partial(plain.error, sets=sets)

    return Phase(
        name=MEAN_NAME,
        title="GCN under mean fills",
        reads=MEAN,
        settings=plain.config.stage2_training,
        loss=completion_loss(plain.predictor, plain.task, "mean"),
        init=lambda key, params: {"gcn": params[CLASSIFIER_NAME]["gcn"]},
        load=load,
        bucket=_lengths(plain)[0],
        buckets=plain.grouped.lengths,
        expects=lambda: (_shapes(plain, initial_gcn), _rows(plain)),
    )


def score(system: System) -> Phase:
    """Train the score networks of features and graphs; no other phase is read."""
    config = system.config
    loss = score_loss(system.modules, config.diffusion.weighting)

    def load(params, seed, place):
        held_out = score_validation(loss, _rows(system, "valid"), *_lengths(system, "valid"))
        return _rows(system), held_out

    def expects():
        params = _shapes(system, initial_score)
        prepare(loss, params, _rows(system, "valid"), *_lengths(system, "valid"))
        return params, _rows(system)

    return Phase(
        name=SCORE_NAME,
        title=f"score networks, {config.graph.variant}",
        reads=SCORE,
        settings=config.score_training,
        loss=loss,
        init=lambda key, params: initial_score(system, key),
        load=load,
        bucket=_lengths(system)[0],
        buckets=system.grouped.lengths,
        expects=expects,
    )


def drawn_by(config: Any) -> str:
    """Return the phase whose networks draw: the student's, where there is one."""
    diffusion = config.diffusion
    return f"gsdnet_energy_{diffusion.nfe}" if diffusion.student else SCORE_NAME


def student(system: System) -> Phase:
    """Train networks that draw by one evaluation or by a few, from the score networks on."""
    config = system.config
    grid = tuple(grid_of(system.modules.sde, config.diffusion).tolist())
    loss = energy_loss(system.modules, grid, config.student.draws, config.student.beta)

    def load(params, seed, place):
        held_out = score_validation(loss, _rows(system, "valid"), *_lengths(system, "valid"))
        return _rows(system), held_out

    return Phase(
        name=drawn_by(config),
        title=f"{config.diffusion.nfe}-step networks, {config.graph.variant}",
        reads=STUDENT,
        settings=config.student_training,
        loss=loss,
        init=lambda key, params: params[SCORE_NAME],
        load=load,
        bucket=_lengths(system)[0],
        buckets=system.grouped.lengths,
        expects=lambda: (_shapes(system, initial_score), _rows(system)),
    )


def stage_2(system: System) -> Phase:
    """Train D_X, D_Lambda and the GCN on drawn sets, `rounds` of each conversation."""
    config, train = system.config, system.grouped.of_split["train"]

    def init(key, params):
        return {"gcn": params[CLASSIFIER_NAME]["gcn"]} | initial_refine(system, key)

    def load(params, seed, place):
        score_params = params[drawn_by(config)]
        sets = training_sets(system, score_params, seed, config.rounds)
        held = validation_sets(system, score_params, seed)
        source = Source({"sets": sets}, _common(system))
        return source, functools.partial(system.error, sets=held)

    def expects():
        system.prepare_draw(_shapes(system, initial_score))
        params = _shapes(system, initial_gcn) | _shapes(system, initial_refine)
        sets = system.shapes_of_sets(config.rounds * len(train))
        return params, Source({"sets": sets}, _common(system))

    return Phase(
        name=STAGE_2_NAME,
        title=f"GCN on draws, {config.graph.variant}",
        reads=tuple(dict.fromkeys(STAGE_2 + (STUDENT if config.diffusion.student else ()))),
        settings=config.stage2_training,
        loss=completion_loss(system.predictor, system.task, "draws", config.graph.beta),
        init=init,
        load=load,
        bucket=np.tile(_lengths(system)[0], config.rounds),
        buckets=system.grouped.lengths,
        expects=expects,
    )


def training_sets(system: System, score_params: Params, seed: int, rounds: int) -> Sets:
    """Draw `rounds` completed sets of each training conversation, under masks of their own."""
    train = system.grouped.of_split["train"]
    key_mask, key = jax.random.split(_key(seed, f"{STAGE_2_NAME} training"))
    conversation, mask = np.tile(train, rounds), AheadOfTime.run_once(training_mask)
    present = np.asarray(system.grouped.data.present)[conversation]
    return system.draw_sets(
        score_params,
        conversation,
        np.asarray(mask(key_mask, present)),
        np.repeat(np.arange(rounds, dtype=np.int32), len(train)),
        key,
        f"seed {seed}: {rounds} draws of {system.config.graph.variant} for training",
    )[0]


def validation_sets(system: System, score_params: Params, seed: int) -> Sets:
    """Draw one completed set of each validation conversation under every mask."""
    conversation, observed = system.under("valid", system.validation_masks())
    return system.draw_sets(
        score_params,
        conversation,
        observed,
        np.zeros(len(conversation), np.int32),
        _key(seed, f"{STAGE_2_NAME} validation"),
        f"seed {seed}: draws of {system.config.graph.variant} for validation",
    )[0]


def _key(seed: int, name: str) -> jax.Array:
    return jax.random.fold_in(jax.random.key(seed), stream(name))


def _shapes(system: System, initial: Callable) -> Params:
    return jax.eval_shape(functools.partial(initial, system), jax.random.key(0))


def _lengths(system: System, split: str = "train") -> tuple[np.ndarray, tuple[int, ...]]:
    """Index into the lengths of each conversation of a split, and the lengths."""
    return system.grouped.bucket[system.grouped.of_split[split]], system.grouped.lengths


def _rows(system: System, split: str = "train") -> Source:
    """Conversations of a split, by their place in all."""
    return Source({"row": system.grouped.of_split[split]}, _common(system))


def _common(system: System) -> dict:
    """What the losses read of all conversations."""
    grouped = system.grouped
    labelled = known_labels(grouped.splits["train"].label)
    return {
        "all": grouped.data,
        "scale": system.scale,
        "back": grouped.back,
        "labelled": np.float32(labelled.sum() / len(grouped.of_split["train"])),
    }
