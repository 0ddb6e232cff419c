"""The two-stage system: draws of missing latents, and a classifier trained on completed sets.

Source: I. Asprogerakas, "Efficient Incomplete Multimodal-Diffused Emotion Recognition" (2025), an
extension of IMDer. What differs: conditions stay clean (`latent/losses.py`), networks predict v
(`diffusion/losses.py`), two missing modalities are drawn as a chain (`latent/draw.py`).
"""

from __future__ import annotations

from mmdjax.methods.latent.base import DrawingMethod
from mmdjax.methods.method import register


@register("two_stage", label="diffusion")
class TwoStage(DrawingMethod):
    """Draws go through the alignment decoder to a classifier trained on such sets (stage 2)."""

    companions = (
        "two_stage evaluation.draws=1",
        "two_stage_complete",
        "zero_trained",
        "mean_trained",
        "zero",
        "mean",
        "linear_probe",
        "bayes",
    )
    trains = ("classifier", "score", "draws")
    predicts = "draws"


@register("two_stage_complete", label="diffusion, complete")
class TwoStageComplete(DrawingMethod):
    """Draws go to the classifier trained on complete data: no stage 2.

    Averaged over draws of the true conditional law this is the Bayes prediction of the complete
    one, for every availability pattern.
    """

    trains = ("classifier", "score")
