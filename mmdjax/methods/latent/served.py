"""Methods of latents in use: encode, complete, align, predict, and back to features.

One program serves every pattern of gaps: what is observed is data, every modality is a condition
with a mask, and a modality of which no row of a call misses anything is not drawn.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmdjax.data import kriging
from mmdjax.data.stored import evenly, is_stored, read
from mmdjax.methods import reading
from mmdjax.methods import served as shared
from mmdjax.methods.latent import feature_decoder
from mmdjax.methods.latent.cover import Cover
from mmdjax.methods.latent.draw import draw_target, rounded, with_dtype
from mmdjax.methods.latent.feature_errors import errors_of_features
from mmdjax.methods.latent.modules import Modules, Scale, build, encode_gaps, predict
from mmdjax.methods.method import Served
from mmdjax.methods.served import Encoded, Route
from mmdjax.networks.encoders import coverage
from mmdjax.types import Observed

MOST = 4096  # training utterances of a set that is not in memory, evenly spaced, that decoders see


@dataclasses.dataclass(frozen=True)
class LatentRoute(Route):
    """The route of methods that complete latents.

    Its parameters are 'mean', 'scale', 'encoders', 'latents' (fields of `Scale`), 'predictor'
    ('fusion', perhaps 'decoder'), 'bounds' (of `Task.calibrate`), 'features' (weights of
    `feature_decoder`); and 'score', 'grid' (steps + 1,) where completions are drawn, or 'constant'
    (M, D) where they are one value.

    Attributes:
      modules: the networks.
      diffusion: `mmdjax.config.Diffusion`.
    """

    modules: Modules
    diffusion: object

    def encode(
        self,
        parameters: Mapping,
        features: Mapping[str, jax.Array],
        said: Mapping[str, jax.Array],
        beside: Mapping[str, jax.Array],
    ) -> Encoded:
        """See `Route.encode`; rows are (z (R, M, T, D) standardised, `Cover`, number (R,), shares
        (R, M))."""
        lengths, given = reading.find_lengths(features, said), features
        observed = reading.observed_frames(features, lengths)
        features = reading.filled(parameters, features)
        number = jnp.zeros(lengths[self.modalities[0]].shape, jnp.uint32)
        x, valid = {}, {}
        for m in self.modalities:
            valid[m] = jnp.arange(features[m].shape[1]) < lengths[m][:, None]
            x[m] = reading.standardised(parameters, m, features[m], observed[m])
            # Not what was filled in, whose last bits may depend on the row's company.
            shown = jnp.where(observed[m][..., None] & ~jnp.isnan(given[m]), given[m], 0.0)
            number = shared.mixed(number ^ _number(shown, observed[m]))
        scale, frames = Scale(**parameters["latents"]), self.modules.encoders.frames
        z, cover = encode_gaps(self.modules, parameters["encoders"], scale, x, valid, observed)
        exists = [coverage(valid[m], valid[m], frames) > 0 for m in self.modalities]
        cover = Cover(cover, jnp.stack(exists, 1))
        anywhere = cover.exists.any(1)
        length = jnp.where(anywhere.any(1), frames - jnp.argmax(anywhere[:, ::-1], axis=1), 1)
        code = cover.missing @ (1 << np.arange(len(self.modalities)))
        shares = reading.observed_shares(self.modalities, observed, lengths)
        return Encoded((z, cover, number, shares), lengths, length, code)

    def cut(self, rows: Any, features: Mapping[str, jax.Array], frames: int) -> tuple[Any, Any]:
        """Cut latents; features are as long as in the file."""
        z, cover, *rest = rows
        return (z[:, :, :frames], Cover(*(a[:, :, :frames] for a in cover)), *rest), features

    def answer(
        self,
        parameters: Mapping,
        rows: Any,
        seed: jax.Array,
        given: tuple | None,
        draws: int,
        level: float,
    ) -> dict:
        """See `Route.answer`."""
        z, cover, number, shares = rows
        z = self.complete(parameters, z, cover, number, seed, draws)
        exists, known = shared.repeated((cover.exists, cover.known), draws)
        scale = Scale(**parameters["latents"])
        outputs = predict(self.modules, parameters["predictor"], scale, z, exists, known)
        each = self.task.read(outputs)
        each = each.reshape(-1, draws, *each.shape[1:])
        answer = shared.predicted(self.task, parameters["bounds"], each, cover.known, level, shares)
        if given is None:
            return answer
        rest = self.modules.encoders.frames - z.shape[2]
        z = jnp.pad(z, ((0, 0), (0, 0), (0, rest), (0, 0)))
        keys = shared.draw_keys(seed, number, draws)
        return answer | self.completed_features(parameters, z, *given, keys, draws)

    def complete(
        self,
        parameters: Mapping,
        z: jax.Array,
        cover: Cover,
        number: jax.Array,
        seed: jax.Array,
        draws: int,
    ) -> jax.Array:
        """Complete every row K times: from the joint law of what is missing given what is observed,
        or with coupling 'independent' from each modality's own.

        Args:
          z, cover, number: of `encode`.
          seed: () uint32. With the number, that of the draw and the modality it is all the
            randomness of a draw.

        Returns:
          (R K, M, T, D), a row's draws after each other, 0 where nothing is.
        """
        if "constant" in parameters:
            constant = parameters["constant"][:, None]
            z = jnp.where(cover.known[..., None, None], z, constant)
            return shared.repeated(jnp.where(cover.exists[..., None], z, 0.0), draws)
        modules = with_dtype(self.modules, self.diffusion.dtype)
        score = rounded(parameters["score"], self.diffusion.dtype)
        modalities, grid = z.shape[1], parameters["grid"]
        guidance = jnp.float32(self.diffusion.guidance)
        keys = shared.draw_keys(seed, number, draws)
        x, shown, partial, wanted = shared.repeated(
            (jnp.where(cover.shown[..., None], z, 0.0), cover.shown, cover.partial, cover.wanted),
            draws,
        )
        first = x, shown, partial

        def draw_modality(state, target):
            x, shown, partial = state
            # A chain reads its own draws as conditions: p(a, b | c) = p(a | c) p(b | a, c).
            condition = state if self.diffusion.coupling == "chain" else first
            params = jax.tree.map(lambda a: a[target], score)
            ids = jnp.broadcast_to(jnp.arange(modalities), (x.shape[0], modalities))
            if getattr(modules.score, "gaps", False):
                ids = ids[..., None] + modalities * condition[2].astype(ids.dtype)
            want = wanted[:, target]

            def draw(_):
                key = jax.vmap(lambda key: jax.random.fold_in(key, target))(keys)[:, None]
                return draw_target(
                    modules,
                    self.diffusion,
                    params,
                    condition[0],
                    ids,
                    want,
                    condition[1],
                    key,
                    grid,
                    guidance,
                )[0]

            drawn = jax.lax.cond(want.any(), draw, lambda _: x[:, None, target], None)[:, 0]
            x = x.at[:, target].set(jnp.where(want[..., None], drawn, x[:, target]))
            shown = shown.at[:, target].set(shown[:, target] | want)
            partial = partial.at[:, target].set(partial[:, target] & ~want)
            return (x, shown, partial), None

        return jax.lax.scan(draw_modality, first, jnp.arange(modalities))[0][0]

    def completed_features(
        self,
        parameters: Mapping,
        z: jax.Array,
        features: Mapping[str, jax.Array],
        lengths: Mapping[str, jax.Array],
        keys: jax.Array,
        draws: int,
    ) -> dict:
        """Return features of completed latents, by modality.

        Args:
          z: (R K, M, T, D). features, lengths: see `Route.answer`. keys: (R K,), of the draws.

        Returns:
          'features' (R, K, T_m, C_m), observed values as given, 0 after the end; 'exists' (R, T_m)
          bool, before the end, which a missing modality takes from the longest observed one;
          'drawn' (R, T_m) bool; 'deviation' (R,), root mean square over drawn frames of the
          standard deviation over draws, in the training data's; 0 where nothing was drawn, NaN for
          K = 1.
        """
        observed, parts = reading.observed_frames(features, lengths), {}
        whole = {m: observed[m] & ~jnp.isnan(x).any(-1) for m, x in features.items()}
        ends = [lengths[m] / features[m].shape[1] * observed[m].any(1) for m in self.modalities]
        share = jnp.stack(ends).max(0)
        for i, m in enumerate(self.modalities):
            frames = features[m].shape[1]
            end = jnp.where(observed[m].any(1), lengths[m], jnp.ceil(share * frames - 1e-4))
            exists = jnp.arange(frames) < end[:, None]
            decoder = parameters["features"][m]
            x = feature_decoder.decode(decoder["weights"], z[:, i], frames)
            own = jax.vmap(jax.random.fold_in, (0, None))(keys, len(self.modalities) + i)
            known = reading.known_numbers(features[m], 1) & observed[m][..., None]
            part = shared.repeated(known.any((1, 2)), draws)
            x += feature_decoder.residuals(own, decoder, part, frames)
            if "field" in decoder:
                given = reading.standardised(parameters, m, features[m], known)
                given, known = shared.repeated((given, known), draws)
                x = kriging.corrected(kriging.Field(**decoder["field"]), x, given, known)
            x, drawn = x.reshape(-1, draws, *x.shape[1:]), exists & ~whole[m]
            parts[m] = shared.completed(parameters, m, x, features[m], drawn, exists, axis=1)
            total = jnp.where(drawn, parts[m].pop("squares"), 0.0).sum(1)
            parts[m]["deviation"] = jnp.sqrt(total / jnp.maximum(drawn.sum(1), 1))
        return shared.by_modality(parts)


def _number(x: jax.Array, observed: jax.Array) -> jax.Array:
    """(R,) uint32 of every bit of x (R, T_m, C_m) and observed (R, T_m)."""
    bits = shared.bits_of(x).reshape(x.shape[0], -1)
    bits = jnp.concatenate([bits, observed.astype(jnp.uint32)], axis=1)
    return shared.hashed(bits).sum(1, dtype=jnp.uint32)


def route(config: Any, modalities: tuple[str, ...], task: Any) -> LatentRoute:
    """Return the route of a config (`mmdjax.config.Config`) with a method of latents."""
    modules = build(config, modalities, task.outputs)
    return LatentRoute(modalities, task, modules, config.diffusion)


def served(method: Any, params: Any, seed: int) -> Served:
    """Return what a method of latents needs in use.

    It is fitted to the training split and chosen on the validation split.

    Args:
      method: `methods.latent.base.LatentMethod`; what it completes with is its `served_with`.
      params: phase -> its parameters.
    """
    from mmdjax.methods.calibration import choose  # not of a served model

    scale, score = method.scale(params), method.score(params)
    latents = method.latents(params, "valid")
    candidates = {"complete": method.classifier(params), "stage2": method.predictor(params)}
    candidates = {name: weights for name, weights in candidates.items() if weights is not None}
    alone = {}  # modality -> (N, T, D), a completion of it given all others

    parts = []  # frames that were shown, and a completion, of every modality shown in part

    def see(observed: Observed, x) -> None:
        if observed.frames is not None:
            if (observed.modalities == valid.present).all():
                parts.append(({m: a[0] for m, a in observed.frames.items()}, x[0, :, 0]))
            return
        for mask, completions in zip(observed.modalities, x, strict=True):
            for m in np.flatnonzero((~mask & valid.present).any(0)):
                # Of several patterns, that which hides it where all else is shown comes last.
                alone[m] = completions[:, 0, m]

    valid = method.dataset.splits["valid"]
    masks = Observed.of_patterns(method.dataset.patterns, valid.present).modalities
    in_part = method.gaps and (score is None or method.config.diffusion.frame_gaps > 0)
    name, bounds = choose(method, params, seed, masks, candidates, see, in_part)
    decoders = _feature_decoders(method, params, alone)
    fields = errors_of_features(method, decoders, parts or [(None, latents.x)])
    arrays = reading.scaling(method.dataset) | {
        "encoders": method.encoders(params),
        "predictor": candidates[name],
        "latents": scale._asdict(),
        "features": {
            m: {"weights": decoder.weights, "noise": decoder.noise, "residual": decoder.residual}
            | fields.get(m, {})
            for m, decoder in decoders.items()
        },
        "bounds": bounds,
    }
    arrays |= method.served_with(params)
    explained = {m: decoder.explained for m, decoder in decoders.items()}
    facts = {
        "frame_gaps": score is not None and method.config.diffusion.frame_gaps > 0,
        "lengths": list(method.buckets),
        "predictor": name,
    }
    return Served(arrays, explained, facts)


def _feature_decoders(
    method: Any, params: Any, alone: Mapping[int, np.ndarray]
) -> dict[str, feature_decoder.FeatureDecoder]:
    """Return modality -> its decoder.

    Args:
      alone: modality -> (N, T, D) of the validation split, drawn given all others.
    """
    splits, rows = method.dataset.standardised, None
    if is_stored(splits["train"]):
        rows = evenly(len(splits["train"]), MOST)
    train, valid = method.latents(params, "train", rows), method.latents(params, "valid")
    known = splits["train"] if rows is None else read(splits["train"], rows)
    return {
        m: feature_decoder.fit(
            train.x[:, i],
            known.features[m],
            known.valid[m],
            valid.x[:, i],
            splits["valid"].features[m],
            splits["valid"].valid[m],
            alone.get(i, valid.x[:, i]),
        )
        for i, m in enumerate(method.modalities)
    }
