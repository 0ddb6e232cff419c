"""Constants in place of what is missing: the methods that drawing has to beat."""

from __future__ import annotations

from mmdjax.methods.latent.base import ConstantMethod
from mmdjax.methods.method import register


@register("zero", label="zero")
class Zero(ConstantMethod):
    """Zeros, into the classifier trained on complete data."""

    trains = ("classifier",)
    fill = "zero"


@register("mean", label="mean")
class Mean(Zero):
    """Training means, into the classifier trained on complete data."""

    fill = "mean"


@register("zero_trained", label="zero (trained)")
class ZeroTrained(ConstantMethod):
    """Zeros, into a classifier trained with the same gaps filled with zeros."""

    trains = ("classifier", "zero")
    fill = predicts = "zero"


@register("mean_trained", label="mean (trained)")
class MeanTrained(ConstantMethod):
    """Training means, into a classifier trained with the same gaps filled with means."""

    trains = ("classifier", "mean")
    fill = predicts = "mean"
