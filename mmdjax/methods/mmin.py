"""MMIN: imagine the embeddings of missing modalities by cascaded residual autoencoders.

Source: Zhao, Li & Jin, "Missing Modality Imagination Network for Emotion Recognition with Uncertain
Missing Modalities" (ACL 2021). A teacher learns encoders and a classifier on complete utterances.
The student starts from its encoders, sees zeros where a modality is missing, and imagines the
teacher's embedding h of all modalities from what it sees (eq. 1 to 3); the codes between its
autoencoders predict the label, and a second cascade leads back (eq. 4):

    L = L_task + 4 ||h' - h||^2 over missing parts + 2 ||h'' - sg(encoder(x))||^2.

Mended: where a modality is present its published target is the teacher's embedding of zeros, here
it has none (`faithful=True` keeps it); the target is computed without the teacher's dropout, where
the published teacher and student have masks of their own. Encoders are those of the utterance
vectors (two layers), not the paper's LSTM and TextCNN; the optimiser is the house's (AdamW) instead
of Adam with beta1 = 0.5.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mmdjax.methods.method import Phase, register
from mmdjax.methods.vector.base import VectorMethod, Vectors, masked_loss, weighted_mean
from mmdjax.methods.vector.networks import Cascade, Encoders, Head
from mmdjax.runtime.compilation import shared
from mmdjax.runtime.settings import field
from mmdjax.training.settings import Training
from mmdjax.types import Params

if TYPE_CHECKING:
    from mmdjax.tasks import Task
    from mmdjax.training.step import Loss


@dataclasses.dataclass(frozen=True)
class Settings:
    """Options of MMIN.

    Attributes:
      width: D of each modality's embedding; the cascade's layers have 2 D, D and D / 2 channels.
      blocks: autoencoders of each cascade.
      dropout: of encoders and classifiers.
      forward, cycle: weights of imagination and of the way back.
      faithful: what is present is to be imagined as the teacher's embedding of zeros, too.
      teacher, training: how the two stages are trained.
    """

    width: int = field(128, low=2)
    blocks: int = field(5, low=1)
    dropout: float = field(0.3, low=0, below=1)
    forward: float = field(4.0, low=0)
    cycle: float = field(2.0, low=0)
    faithful: bool = False
    teacher: Training = Training(epochs=60, batch=128, warmup=20)  # noqa: RUF009
    training: Training = Training(epochs=60, batch=128, warmup=20)  # noqa: RUF009


class Teacher(nn.Module):
    """Encoders and a classifier of complete utterances."""

    outputs: int
    width: int
    dropout: float

    @nn.compact
    def __call__(
        self, x: Vectors, observed: jax.Array, deterministic: bool = True
    ) -> tuple[jax.Array, jax.Array]:
        """Return outputs (B, outputs) and embeddings (B, M, D)."""
        encoders = Encoders(self.width, self.dropout, name="encoders")
        h = encoders(x, observed, deterministic)
        head = Head(self.outputs, self.width, self.dropout, name="head")
        return head(h.reshape(h.shape[0], -1), deterministic), h


class Student(nn.Module):
    """Encoders, the cascade that imagines, the one that leads back, and a classifier of codes."""

    outputs: int
    width: int
    blocks: int
    dropout: float

    def setup(self) -> None:
        self.encoders = Encoders(self.width, self.dropout)
        sizes = (2 * self.width, self.width, self.width // 2)
        self.imagine, self.back = (Cascade(self.blocks, sizes) for _ in range(2))
        self.head = Head(self.outputs, self.width, self.dropout)

    def __call__(
        self, x: Vectors, observed: jax.Array, deterministic: bool = True
    ) -> tuple[jax.Array, jax.Array]:
        """Return outputs (B, outputs) and imagined embeddings (B, M, D)."""
        outputs, imagined, _, _ = self.everything(x, observed, deterministic)
        return outputs, imagined

    def everything(
        self, x: Vectors, observed: jax.Array, deterministic: bool = True
    ) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        """Return outputs, imagined embeddings, the way back from them, and the encoders' own."""
        seen = self.encoders(x, observed, deterministic)
        flat = seen.reshape(seen.shape[0], -1)
        imagined, codes = self.imagine(flat)
        back, _ = self.back(imagined)
        outputs = self.head(codes, deterministic)
        return outputs, imagined.reshape(seen.shape), back.reshape(seen.shape), seen


@shared
def teacher_loss(teacher: Teacher, task: Task) -> Loss:
    """Return the task's loss on whole utterances."""

    def loss(params, data, weight, key, frames):
        x, present = data["x"], data["present"]
        outputs, _ = teacher.apply(params, x, present, False, rngs={"dropout": key})
        return task.mean_loss(outputs, data["label"], weight)

    return loss


@shared
def student_loss(
    teacher: Teacher,
    student: Student,
    task: Task,
    options: Settings,
    pats: tuple[tuple[bool, ...], ...],
) -> Loss:
    """Return the loss of imagination; data has 'teacher', its parameters, beside the rows.

    Args:
      pats: availability patterns as nested tuples of bool.
    """

    def loss(params, data, observed, weight, rngs):
        x, present = data["x"], data["present"]
        missing = present & ~observed  # what is to be imagined has to be known
        _, target = teacher.apply(jax.lax.stop_gradient(data["teacher"]), x, missing)
        outputs, imagined, back, seen = student.apply(
            params, x, observed, False, method="everything", rngs=rngs
        )
        counted = (present if options.faithful else missing)[..., None]
        count = jnp.maximum(counted.sum((1, 2)), 1) * target.shape[-1]
        imagination = jnp.where(counted, (imagined - target) ** 2, 0.0).sum((1, 2)) / count
        way_back = ((back - jax.lax.stop_gradient(seen)) ** 2).mean((1, 2))
        beside = options.forward * imagination + options.cycle * way_back
        return task.mean_loss(outputs, data["label"], weight) + weighted_mean(beside, weight)

    return masked_loss(pats, loss)


@register("mmin", label="MMIN", published="MMIN", options=Settings)
class Imagination(VectorMethod):
    """The student's classifier on the codes of what it imagines."""

    predicts = "mmin"

    @classmethod
    def build(cls, config: Any, modalities: tuple[str, ...], task: Task) -> Student:
        """Return the student."""
        options = config.mmin
        return Student(task.outputs, options.width, options.blocks, options.dropout)

    @functools.cached_property
    def phases(self) -> tuple[Phase, ...]:
        """The teacher on whole utterances, then the student."""
        options = self.config.mmin
        teacher = Teacher(self.task.outputs, options.width, options.dropout)
        whole = self.dataset.splits["valid"].present[None]
        every = self.every_pattern("valid")

        def start(key, params):
            student = self.initial(self.network, key)
            student["params"]["encoders"] = params["mmin_teacher"]["params"]["encoders"]
            return student

        return (
            self.phase(
                "mmin_teacher",
                "MMIN's teacher",
                options.teacher,
                teacher_loss(teacher, self.task),
                lambda key, params: self.initial(teacher, key),
                lambda params, _: self.error(teacher, params, whole),
            ),
            self.phase(
                "mmin",
                "MMIN",
                options.training,
                student_loss(teacher, self.network, self.task, options, self.conditions),
                start,
                lambda params, _: self.error(self.network, params, every),
                lambda params: {"teacher": params["mmin_teacher"]},
            ),
        )

    def truth(self, params: Params, split: str) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """Return the teacher's embeddings of complete utterances, of each modality."""
        options = self.config.mmin
        teacher = Teacher(self.task.outputs, options.width, options.dropout)
        present = self.dataset.splits[split].present
        _, embedding = self.outputs(teacher, params["mmin_teacher"], split, present[None])
        pairs = enumerate(present.T)
        return tuple((embedding[0, :, m, None], there[:, None]) for m, there in pairs)
