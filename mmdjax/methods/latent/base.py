"""What methods that complete utterances in the latent space have in common."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import numpy as np

from mmdjax.errors import UserError
from mmdjax.methods.latent import phases, students
from mmdjax.methods.latent.completion import draw_observed
from mmdjax.methods.latent.draw import make_drawer
from mmdjax.methods.latent.modules import Scale, build
from mmdjax.methods.latent.space import Space
from mmdjax.methods.method import SOLVER, Completion, Phase
from mmdjax.runtime.devices import on_all_devices
from mmdjax.types import Latents, Observed


class LatentMethod(Space):
    """Encodes, completes latents by `complete_latents`, and predicts with the fusion.

    Class attributes:
      trains: names of its phases, see `phases.of_name`.
      predicts: the phase whose parameters predict.
    """

    gaps = streams = True
    serving = "mmdjax.methods.latent.served"
    trains: ClassVar[tuple[str, ...]] = ()
    predicts = "classifier"

    @classmethod
    def check(cls, config: Any) -> None:
        """Raise `UserError` where lengths do not end with the latents' frames."""
        buckets, frames = config.data.length_buckets, config.latents.frames
        if buckets and frames and buckets[-1] != frames:
            raise UserError(
                f"config.data.length_buckets = {buckets}; allowed: increasing lengths that end "
                f"with latents.frames = {config.latents.frames}"
            )

    @functools.cached_property
    def phases(self) -> tuple[Phase, ...]:
        """What is trained, in the order of `trains`."""
        return tuple(phases.of_name(self, name) for name in self.trains)

    def encoders(self, params: Any) -> Any:
        """Return the encoders' parameters."""
        return params["classifier"]["encoders"]

    def scale(self, params: Any) -> Scale:
        """Return the scale of the latents."""
        return self.standardised(self.encoders(params))[0]

    def latents(self, params: Any, split: str, rows: np.ndarray | None = None) -> Latents:
        """Return the standardised latents of a split, or of some rows of it."""
        latents = self.standardised(self.encoders(params))[1][split]
        return latents if rows is None else Latents(*(a[rows] for a in latents))

    def score(self, params: Any) -> Any:
        """Return the parameters of the networks that draw, stacked over M; None without them."""
        return students.drawn_by(self.modules, self.config, params)

    def served_with(self, params: Any) -> dict:
        """Return the arrays that a served model completes with; see `latent.served`."""
        raise NotImplementedError

    def predictor(self, params: Any) -> dict:
        """Return {'fusion', and 'decoder' where there is one}."""
        return {k: v for k, v in params[self.predicts].items() if k in ("fusion", "decoder")}

    def classifier(self, params: Any) -> dict | None:
        """Return {'fusion'} trained on complete data; None for a method without it."""
        return {"fusion": params["classifier"]["fusion"]} if "classifier" in params else None

    def complete(
        self,
        params: Any,
        split: str,
        observed: Observed,
        draws: int,
        key: jax.Array,
        title: str,
        rows: np.ndarray | None = None,
    ) -> Completion:
        """Complete latents, `x` (Q, N, K, M, T, D); see `Method.complete`."""
        settings = (observed, draws)
        if observed.frames is None:
            z, given = self.latents(params, split, rows), observed.modalities
            return self.complete_latents(params, z, given, *settings, key, title, rows)
        parts = []
        batch = self.splits[split] if rows is None else self.splits[split].at(rows)
        for index in range(len(observed.modalities)):
            frames = {m: v[index] for m, v in observed.frames.items()}
            z, cover = self.encode_gaps(self.encoders(params), self.scale(params), batch, frames)
            here = jax.random.fold_in(key, index)
            parts.append(
                self.complete_latents(params, z, cover[None], *settings, here, title, rows)
            )
        return parts[0]._replace(x=np.concatenate([p.x for p in parts]))

    def complete_latents(
        self,
        params: Any,
        z: Latents,
        given: np.ndarray,
        observed: Observed,
        draws: int,
        key: jax.Array,
        title: str,
        rows: np.ndarray | None = None,
    ) -> Completion:
        """Complete N utterances under Q conditions.

        Args:
          z: standardised latents; what is not observed is never read.
          given: (Q, N, M) bool, or what each latent frame rests on, (Q, N, M, T), see `Cover`.
          rows: (N,) their numbers in the split.
        """
        raise NotImplementedError

    def predict(self, params: Any, split: str, completion: Completion) -> np.ndarray:
        """Return predictions (Q, N, K, ...)."""
        return self.predict_with(self.predictor(params), params, split, completion)

    def predict_with(
        self, predictor: Any, params: Any, split: str, completion: Completion
    ) -> np.ndarray:
        """Return predictions of a fusion, after its decoder if it has one."""
        x = completion.x
        lead = x.shape[:3]  # conditions, utterances, draws
        valid = self.latents(params, split, completion.rows).valid
        valid = np.broadcast_to(valid[None, :, None], (*lead, *valid.shape[1:]))
        known = completion.observed.modalities
        known = np.broadcast_to(known[:, :, None], (*lead, known.shape[-1]))
        x, valid, known = (a.reshape(-1, *a.shape[3:]) for a in (x, valid, known))
        prediction = self.predict_latents(predictor, self.scale(params), x, valid, known)
        return prediction.reshape(*lead, *prediction.shape[1:])

    def truth(
        self, params: Any, split: str, rows: np.ndarray | None = None
    ) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """Return the true standardised latents of each modality, and their frames."""
        z = self.latents(params, split, rows)
        return tuple((z.x[:, m], z.valid[:, m]) for m in range(z.x.shape[1]))

    def compared(self, params: Any, completion: Completion, modality: int) -> np.ndarray:
        """Return completed latents of one modality, (Q, N, K, T, D)."""
        return completion.x[:, :, :, modality]


class DrawingMethod(LatentMethod):
    """Draws missing latents from their distribution given the observed ones."""

    draws = True

    @functools.cached_property
    def phases(self) -> tuple[Phase, ...]:
        """What is trained, with a student behind the score networks it starts from."""
        classifier, score, *rest = (phases.of_name(self, name) for name in self.trains)
        return (classifier, score, *phases.learned(self), *rest)

    @property
    def completes(self) -> tuple[str, ...]:
        """Draws depend on the networks that draw, and on the solver."""
        rounds = students.rounds(self.modules, self.config)
        return ("draws", "score", *(learned.name for learned in rounds), *SOLVER)

    @classmethod
    def check(cls, config: Any) -> None:
        """Raise `UserError` for gaps inside modalities that the networks do not learn."""
        super().check(config)
        from mmdjax.data.missing.gaps import FRAMES

        diffusion = config.diffusion
        students.check(config)
        for name, *_ in config.evaluation.generators():
            if name in FRAMES and not diffusion.frame_gaps:
                raise UserError(
                    f"config.evaluation.gaps has {name!r}, which drops frames, and the score "
                    "networks learn whole modalities; give config.diffusion.frame_gaps above 0, "
                    "such as 0.5"
                )
        if diffusion.frame_gaps and (
            config.score.network != "score_transformer" or diffusion.conditioning != "clean"
        ):
            raise UserError(
                f"config.diffusion.frame_gaps = {diffusion.frame_gaps} with network "
                f"{config.score.network!r} and conditioning {diffusion.conditioning!r}; allowed: "
                "score_transformer and clean"
            )

    @classmethod
    def warm(cls, config: Any, modalities: tuple[str, ...]) -> None:
        """Start compiling the draws, whose shapes are known from the config."""
        from mmdjax.methods.latent.draw import prepare

        modules = build(config, modalities)
        prepare(make_drawer(modules, config.diffusion), modules, config)

    def served_with(self, params: Any) -> dict:
        """Return the score networks, and the times of a draw."""
        return {"score": self.score(params), "grid": self.drawer.grid}

    def complete_latents(
        self,
        params: Any,
        z: Latents,
        given: np.ndarray,
        observed: Observed,
        draws: int,
        key: jax.Array,
        title: str,
        rows: np.ndarray | None = None,
    ) -> Completion:
        """Draw K completions; with nothing missing every draw is the utterance itself."""
        x, nfe = draw_observed(self, self.score(params), z, given, draws, key, title, rows)
        return Completion(x, observed, nfe, rows)

    def draw_call(self) -> tuple[Callable[[], Any], dict[str, int]]:
        """Return a full batch of draws of one modality given all others."""
        modules, config, drawer = self.modules, self.config, self.drawer
        batch, others = config.evaluation.batch, len(self.modalities) - 1
        frames, channels = config.latents.frames, config.latents.channels
        ids = np.tile(np.arange(1, others + 1, dtype=np.int32), (batch, 1))
        condition = np.zeros((batch, others, frames, channels), np.float32)
        masks = np.ones((batch, frames), bool), np.ones((batch, others, frames), bool)
        # Zeros as parameters take as long as trained ones.
        shapes = students.shapes(modules, config)
        params = jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), shapes)
        count = sum(a.size for a in jax.tree.leaves(params)) // len(self.modalities)
        params = on_all_devices(params, batch)
        keys, target = jax.random.split(jax.random.key(0), (1, batch, 1)), np.zeros(1, np.int32)
        guidance = np.float32(config.diffusion.guidance)

        def call():
            return drawer.draw(params, target, condition, ids, *masks, keys, drawer.grid, guidance)

        return call, {"parameters": count, "batch": batch}


class ConstantMethod(LatentMethod):
    """Fills missing latents with a constant: raw zero, or the mean of the training split."""

    fill = "zero"

    @property
    def completes(self) -> tuple[str, ...]:
        """The constant depends on the encoders."""
        return (self.fill, "classifier")

    def served_with(self, params: Any) -> dict:
        """Return the constant, of standardised latents."""
        return {"constant": self.constant(self.fill, self.scale(params))}

    def complete_latents(
        self,
        params: Any,
        z: Latents,
        given: np.ndarray,
        observed: Observed,
        draws: int,
        key: jax.Array,
        title: str,
        rows: np.ndarray | None = None,
    ) -> Completion:
        """Put the constant where nothing is observed."""
        constant = self.constant(self.fill, self.scale(params))[:, None]
        seen = given[..., None, None] if given.ndim == 3 else (given > 0)[..., None]
        return Completion(np.where(seen, z.x[None], constant)[:, :, None], observed, 0, rows)
