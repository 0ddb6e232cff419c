"""From a trained system to a `bundle`: what a request needs beside the networks, fitted to the
training split and chosen on the validation split.
"""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np

import mmdjax
from mmdjax import config as configs
from mmdjax.data import pipeline
from mmdjax.evaluation.evaluate import in_groups, predict_draws
from mmdjax.methods.latent.completion import draw_patterns, under
from mmdjax.methods.two_stage import scaled
from mmdjax.runtime import processes
from mmdjax.serving import bundle, feature_decoder
from mmdjax.serving.interval import calibrate

STREAM = 300  # of a seed's randomness


def publish(system, trained, seed: int, raw_train, folder: Path, content: str) -> None:
    """Writes the model of one seed into `folder`.

    Args:
      system: `methods.two_stage.TwoStage`. trained: its `Trained`, with score networks.
      raw_train: the training split before standardisation. content: names the data.
    """
    z = {
        split: scaled(system.encode(trained.encoders, system.splits[split]), trained.scale)
        for split in ("train", "valid")
    }
    predictor, name, intervals, drawn = _predictor(system, trained, seed, z["valid"])
    if not processes.is_first():
        return
    decoders = {
        m: feature_decoder.fit(
            z["train"].x[:, i],
            system.splits["train"].features[m],
            system.splits["train"].valid[m],
            z["valid"].x[:, i],
            system.splits["valid"].features[m],
            system.splits["valid"].valid[m],
            drawn[i],
        )
        for i, m in enumerate(system.modalities)
    }
    scaling = pipeline.scaling(raw_train)
    arrays = {
        "encoders": trained.encoders,
        "score": trained.score,
        "predictor": predictor,
        "latents": trained.scale._asdict(),
        "mean": {m: mean.astype(np.float32) for m, (mean, _) in scaling.items()},
        "scale": {m: scale.astype(np.float32) for m, (_, scale) in scaling.items()},
        "features": {m: decoder.weights for m, decoder in decoders.items()},
        "grid": system.drawer.grid,
        "intervals": intervals,
    }
    shapes = {m: x.shape[1:] for m, x in raw_train.features.items()}
    # Of the validation split's variance, what a draw of exactly the true latents would give back in
    # features.
    explained = {m: decoder.explained for m, decoder in decoders.items()}
    more = {"frame_gaps": system.config.diffusion.frame_gaps > 0, "predictor": name}
    signature = about(system.config, seed, shapes, explained, raw_train.label, content) | more
    bundle.save(folder, bundle.Bundle(signature, jax.tree.map(np.asarray, arrays)))


def about(config, seed: int, shapes, explained, label: np.ndarray, content: str) -> dict:
    """What every signature says.

    Args:
      shapes: modality -> (frames, channels). explained: modality -> share of variance.
    """
    keys = {name: key for key, name in config.data.names_by_key().items()}
    return {
        "mmdjax": mmdjax.__version__,
        "title": config.title,
        "modalities": [
            {
                "name": m,
                "key": keys.get(m, m),
                "frames": frames,
                "channels": channels,
                "explained": round(explained[m], 4),
            }
            for m, (frames, channels) in shapes.items()
        ],
        "label": [float(label.min()), float(label.max())],
        "draws": config.evaluation.draws,
        "seed": seed,
        "data": content,
        "config": configs.to_dict(config),
    }


def _predictor(system, trained, seed: int, z):
    """The better classifier on validation over all patterns (stage 2, or that of complete data),
    its name and its intervals; and a draw (N, T, D) of each modality given all others."""
    draws = system.config.evaluation.draws
    key, rows = jax.random.fold_in(jax.random.key(seed), STREAM), len(z.label)
    candidates = {"stage2": trained.stage2["draws"]}
    if trained.complete is not None:
        candidates["complete"] = trained.complete
    found: dict[str, list] = {name: [] for name in candidates}
    alone = {}
    for patterns in in_groups(system.patterns, rows * draws):
        count = 1 if patterns.all() else draws
        names = f"seed {seed}: {count} draws for intervals"
        drawn, _ = draw_patterns(system, trained.score, z, patterns, count, key, names)
        every, observed = under(patterns, z)
        for pattern, sets in zip(patterns, drawn, strict=True):
            if (~pattern).sum() == 1:
                m = int(np.argmin(pattern))
                alone[m] = sets[:, 0, m]
        sets = drawn.reshape(len(observed), count, *z.x.shape[1:])
        for name, params in candidates.items():
            each = predict_draws(system, params, trained.scale, sets, every.valid, observed)
            each = np.repeat(each, draws // count, axis=1)
            found[name].append(each.reshape(len(patterns), rows, draws))
    found = {name: np.concatenate(parts) for name, parts in found.items()}
    errors = {name: np.abs(p.mean(-1) - z.label).mean() for name, p in found.items()}
    best = min(errors, key=errors.get)
    code = np.repeat(system.patterns @ (1 << np.arange(len(system.modalities))), rows)
    label, codes = np.tile(z.label, len(system.patterns)), 2 ** len(system.modalities)
    intervals = calibrate(found[best].reshape(-1, draws), label, code, codes)
    return candidates[best], best, intervals, alone
