"""Constants in place of what is missing: the methods that drawing has to beat."""

from __future__ import annotations

import functools

from mmdjax.methods.latent.base import ConstantMethod, two_stage_phases
from mmdjax.methods.method import register


@register("zero", label="zero")
class Zero(ConstantMethod):
    """Zeros, into the classifier trained on complete data."""

    fill = "zero"

    @functools.cached_property
    def phases(self):
        """Classifier on complete data."""
        return two_stage_phases(self, "classifier")


@register("mean", label="mean")
class Mean(Zero):
    """Training means, into the classifier trained on complete data."""

    fill = "mean"


@register("zero_trained", label="zero (trained)")
class ZeroTrained(ConstantMethod):
    """Zeros, into a classifier trained with the same gaps filled with zeros."""

    fill = predicts = "zero"

    @functools.cached_property
    def phases(self):
        """Classifier on complete data, then stage 2 with the constant."""
        return two_stage_phases(self, "classifier", self.fill)


@register("mean_trained", label="mean (trained)")
class MeanTrained(ZeroTrained):
    """Training means, into a classifier trained with the same gaps filled with means."""

    fill = predicts = "mean"
