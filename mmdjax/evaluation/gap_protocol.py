"""The test split under seeded gaps (`data/missing/gaps.py`): dropped frames, bursts, blocks, and
modalities that fail together, at rates of their own, or by the label. The same masks for every
method.

Draws are conditioned on all that is observed, frames of the modality itself among it. The constant
fills take what the encoders make of what is observed; a latent that rests on nothing is the
constant. On synthetic data the Bayes optimum is that of every utterance's own frames.
"""

from __future__ import annotations

import jax
import numpy as np

from mmdjax.data.missing.gaps import observed_frames
from mmdjax.data.sources.synthetic import LAWS, Law
from mmdjax.evaluation.evaluate import predict_draws
from mmdjax.evaluation.protocols import row, scored
from mmdjax.types import Batch, Latents

STREAM = 250  # of a seed's randomness


def gap_rows(system, trained, seed: int, raw_test: Batch) -> tuple[list[dict], dict]:
    """Rows of protocol 'gaps', condition 'burst 0.3', and the masks by condition and modality.

    Args:
      system: `methods.two_stage.TwoStage`. trained: its `Trained`. seed: of masks and draws.
      raw_test: the test split before standardisation, for the exact law of synthetic data.
    """
    rows, masks, config, test = [], {}, system.config, system.splits["test"]
    for number, (name, rate) in enumerate(config.evaluation.generators()):
        condition = f"{name} {rate:g}"
        observed = observed_frames(name, test.valid, rate, seed, label=test.label)
        latents, cover = system.encode_gaps(trained.encoders, trained.scale, test, observed)
        found = _fills(system, trained, latents, cover)
        if trained.score is not None:
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), STREAM), number)
            found |= _draws(system, trained, latents, cover, key, f"seed {seed}: {condition}")
        if config.data.name in LAWS:
            law = Law(config.data.seed, LAWS[config.data.name])
            found["bayes"] = bayes(law, raw_test.features, observed)
        rows += scored(found, test.label, "gaps", condition, seed)
        exists = sum(v.sum() for v in test.valid.values())
        missing = 1 - sum(o.sum() for o in observed.values()) / exists
        rows.append(row("protocol", "gaps", condition, seed, "missing_rate", missing))
        masks |= {f"{condition} {m}": o for m, o in observed.items()}
    return rows, masks


def _draws(system, trained, latents: Latents, cover, key, name: str) -> dict[str, np.ndarray]:
    """Method -> predictions (N,), averages over K draws."""
    size, draws = len(latents.label), system.config.evaluation.draws
    index = np.tile(np.arange(draws), (size, 1))
    about = (latents, cover, np.arange(size), index, key, name)
    drawn, _ = system.draw(trained.score, *about)
    given = (drawn, latents.valid, cover.any(-1))
    each = predict_draws(system, trained.stage2["draws"], trained.scale, *given)
    found = {f"diffusion_k{draws}": each.mean(-1)}
    if trained.complete is not None:
        each = predict_draws(system, trained.complete, trained.scale, *given)
        found[f"diffusion_complete_k{draws}"] = each.mean(-1)
    return found


def _fills(system, trained, latents: Latents, cover) -> dict[str, np.ndarray]:
    found = {}
    for fill in (f for f in trained.stage2 if f != "draws"):
        constant = system.constant(fill, trained.scale)[:, None]
        filled = np.where((cover > 0)[..., None], latents.x, constant)
        for method, params in ((fill, trained.complete), (f"{fill}_trained", trained.stage2[fill])):
            about = (trained.scale, filled, latents.valid, cover.any(-1))
            found[method] = system.predict(params, *about)
    return found


def bayes(law: Law, features, observed) -> np.ndarray:
    """(N,) posterior median of the label given each utterance's observed entries, clipped.

    Args:
      features[m]: (N, T_m, C_m) before standardisation. observed[m]: (N, T_m).
    """
    names = tuple(features)
    shown = np.concatenate(
        [np.repeat(observed[m], features[m].shape[2], axis=1) for m in names], axis=1
    )
    values, where = law.flatten(features, names), law.indices(names)
    result = np.empty(len(values), np.float32)
    patterns, which = np.unique(shown, axis=0, return_inverse=True)
    for index, pattern in enumerate(patterns):
        rows = np.flatnonzero(which.reshape(-1) == index)
        result[rows] = law.median_given(where[pattern], values[rows][:, pattern])
    return result
