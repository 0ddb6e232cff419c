"""The conditions of an evaluation: which data of the test split are observed, for all methods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from mmdjax.config import Evaluation
from mmdjax.data.dataset import Dataset
from mmdjax.data.missing.gaps import FRAMES, observed_frames
from mmdjax.data.missing.patterns import is_possible, largest_rate, pattern_name, random_mask
from mmdjax.data.stored import is_stored
from mmdjax.errors import UserError
from mmdjax.types import Observed, hidden


class Condition(NamedTuple):
    """What is observed of a split, and its name.

    Attributes:
      protocol: 'fixed' (one availability pattern for all utterances), 'random' (a missing rate) or
        'gaps' (a generator of `data/missing/gaps.py`).
      name: 'l+a', '0.3' or 'burst 0.3'.
      observed: with Q = 1.
      counted: (N,) bool, the utterances that have something of what it shows; others, which stay
        as they are, are not measured. At a missing rate all count: one of which only the hidden
        modalities are there stays as it is.
    """

    protocol: str
    name: str
    observed: Observed
    counted: np.ndarray

    def missing_rate(self, valid: Mapping[str, np.ndarray]) -> float:
        """Return the share that is really hidden: of modalities that are there, or of frames."""
        if self.observed.frames is None:
            present = np.stack([v.any(1) for v in valid.values()], axis=1)
            return float(1 - self.observed.modalities.sum() / present.sum())
        exists = sum(v.sum() for v in valid.values())
        return float(1 - sum(o.sum() for o in self.observed.frames.values()) / exists)

    def masks(self) -> dict[str, np.ndarray]:
        """Return the masks that are saved with a run, by name; those of patterns need not be."""
        if self.protocol == "fixed":
            return {}
        if self.observed.frames is None:
            return {self.name: self.observed.modalities[0]}
        return {f"{self.name} {m}": o[0] for m, o in self.observed.frames.items()}


def rate_name(rate: float) -> str:
    """Return '0.3'; with more decimals where the rate has them."""
    return f"{rate:.1f}" if round(rate, 1) == rate else f"{rate:g}"


def left_out(evaluation: Evaluation, modalities: int) -> str:
    """Return a sentence on the missing rates that so many modalities cannot have; '' for none."""
    rates = [rate for rate in evaluation.rates if not is_possible(rate, modalities)]
    if not rates:
        return ""
    names = ", ".join(map(rate_name, rates))
    most = f"of {modalities} modalities at most {largest_rate(modalities)[0]:.3g} can be missing"
    return f"config.evaluation.rates: {names} left out, {most}"


def conditions_of(
    dataset: Dataset, evaluation: Evaluation, seed: int, split: str = "test"
) -> list[Condition]:
    """Return all conditions of a run, a function of the data, the settings and the seed.

    Args:
      dataset: `mmdjax.data.dataset.Dataset`. evaluation: `mmdjax.config.Evaluation`.
    """
    batch, names = dataset.splits[split], dataset.modalities
    (rows, count), present = batch.present.shape, batch.present
    result = []
    for pattern in dataset.patterns:
        observed, counted = Observed.of_patterns(pattern[None], present), (pattern & present).any(1)
        result.append(Condition("fixed", pattern_name(pattern, names), observed, counted))
    everything = np.ones(rows, bool)
    for rate in (r for r in evaluation.rates if is_possible(r, count)):
        mask = hidden(random_mask(rows, count, rate, seed), present)
        result.append(Condition("random", rate_name(rate), Observed(mask[None]), everything))
    if evaluation.gaps and is_stored(batch):
        problem = f"config.evaluation.gaps with a {split} split of {rows} utterances"
        raise UserError(f"{problem}, beyond config.data.buffer; give a larger buffer, or no gaps")
    for name, rate, settings in evaluation.generators():
        # Generators that depend on the label take one number an utterance; without a label, which
        # nothing is measured against, any.
        label = np.nan_to_num(np.asarray(batch.label, np.float32).reshape(rows, -1)[:, 0])
        frames = observed_frames(name, batch.valid, rate, seed, label=label, **settings)
        some = np.stack([frames[m].any(1) for m in names], axis=1)
        # Methods that take whole modalities are given these like those of a missing rate.
        parts = {m: f[None] for m, f in frames.items()} if name in FRAMES else None
        each = "/".join(f"{r:g}" for r in settings.get("rates", (rate,)))
        result.append(Condition("gaps", f"{name} {each}", Observed(some[None], parts), some.any(1)))
    return result
