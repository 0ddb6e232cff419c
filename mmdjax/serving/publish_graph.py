"""From a trained system of conversations to a `bundle`."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np

from mmdjax.diffusion import time_grid
from mmdjax.diffusion.samplers.registry import steps_for
from mmdjax.methods.graph.losses import prediction_error
from mmdjax.methods.graph_stages import validation_masks
from mmdjax.runtime import processes
from mmdjax.serving import bundle, publish
from mmdjax.serving.interval import calibrate, calibrate_classes


def publish_conversations(system, trained, seed: int, raw_train, folder: Path, content: str):
    """Writes the model of one seed into `folder`: that of the first variant.

    Args:
      system: `methods.graph_system.GraphSystem`. trained: its `Trained`, with score networks.
      raw_train: the training split before standardisation. content: names the data.
    """
    predictor, name, intervals = _predictor(system, trained, seed)
    if not processes.is_first():
        return
    names, variant, diffusion = system.modalities, system.constant, system.config.diffusion
    found = system.components
    sde = system.modules[variant].sde
    steps = steps_for(diffusion.sampler, diffusion.nfe, **diffusion.options())
    grid = time_grid(diffusion.grid, sde, steps, **diffusion.grid_arguments())
    scaling = {m: system.scaling[m] for m in names}
    arrays = {
        "mean": {m: mean.astype(np.float32) for m, (mean, _) in scaling.items()},
        "scale": {m: scale.astype(np.float32) for m, (_, scale) in scaling.items()},
        "forward": dict(zip(names, found.forward, strict=True)),
        "back": dict(zip(names, found.back, strict=True)),
        "score": trained.score[variant],
        "predictor": predictor,
        "unit": system.scale[variant],
        "grid": np.asarray(grid, np.float32),
        "intervals": intervals,
    }
    shapes = {m: (1, x.shape[1]) for m, x in raw_train.features.items()}
    valid = system.batches["valid"]
    explained = {
        m: _explained(valid.features[m][:, 0], forward, back)
        for m, forward, back in zip(names, *found, strict=True)
    }
    more = {"frame_gaps": False, "predictor": name, "variant": variant}
    signature = publish.about(system.config, seed, shapes, explained, raw_train.label, content)
    bundle.save(folder, bundle.Bundle(signature | more, jax.tree.map(np.asarray, arrays)))


def _explained(x: np.ndarray, forward: np.ndarray, back: np.ndarray) -> float:
    """Share of the variance of standardised x (U, C) that its components keep."""
    return float(1 - ((x - x @ forward @ back) ** 2).sum() / max((x**2).sum(), 1e-12))


def _predictor(system, trained, seed: int):
    """The better classifier on validation over patterns and rates (stage 2, or that of complete
    data), its name and its intervals."""
    draws, variant, classes = (
        system.config.evaluation.draws,
        system.constant,
        system.config.data.classes,
    )
    conversation, observed = validation_masks(system)
    key = jax.random.fold_in(jax.random.key(seed), publish.STREAM)
    title = f"seed {seed}: {draws} draws for intervals"
    params = trained.score[variant]
    sets, _ = system.draw_sets(variant, params, conversation, observed, draws, key, title)
    exists = np.asarray(system.data.graphs.valid)[conversation]
    label = np.asarray(system.data.label)[conversation][exists]
    code = (observed @ (1 << np.arange(observed.shape[-1])))[exists]
    best = None
    for name, params in (("stage2", trained.stage2[variant]), ("complete", trained.complete)):
        outputs = system.complete(variant, params, sets).prediction
        each = system.predicted(outputs)  # of every draw
        each = np.moveaxis(each.reshape(-1, draws, *each.shape[1:]), 1, 2)[exists]
        mean = each.mean(1)
        outputs = np.log(np.maximum(mean, 1e-12)) if classes else mean[:, None]
        error = float(np.asarray(prediction_error(outputs, label, classes)).mean())
        if best is None or error < best[0]:
            best = error, params, name, each
    _, params, name, each = best
    made = (calibrate_classes if classes else calibrate)(each, label, code, 1 << observed.shape[-1])
    return params, name, made
