"""The Python interface: give utterances with gaps, get them completed, or what they mean.

imputer = mmdjax.Imputer.load("runs/synthetic")
filled = imputer.impute({"language": x, "acoustic": None}, draws=8)
found = imputer.predict({"language": x, "acoustic": None})
print(filled.features["acoustic"].shape, found.mean, found.low, found.high)
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from mmdjax import config as configs
from mmdjax.errors import UserError, choice
from mmdjax.methods.latent.modules import build, filled_valid
from mmdjax.methods.latent.work_list import bucket_of
from mmdjax.networks.encoders import WHOLE
from mmdjax.serving import bundle, inputs, path
from mmdjax.serving.interval import LEVELS
from mmdjax.serving.path import Parameters
from mmdjax.serving.path import Path as Route


class Imputed(NamedTuple):
    """N utterances, completed.

    Attributes:
      features: modality -> (N, T_m, C_m) float32, and (K, N, T_m, C_m) of K > 1 draws; what was
        observed as it was given, to the last bit, 0 after an utterance's end.
      drawn: modality -> (N, T_m) bool, frames that were missing.
      exists: modality -> (N, T_m) bool, frames of the completed utterance.
      spread: modality -> (N,) root mean square deviation over draws of what was drawn, in standard
        deviations of the training data; 0 where nothing was, NaN with a single draw.
    """

    features: dict[str, np.ndarray]
    drawn: dict[str, np.ndarray]
    exists: dict[str, np.ndarray]
    spread: dict[str, np.ndarray]


class Predicted(NamedTuple):
    """Of N utterances.

    Attributes:
      mean: (N,) average over draws. low, high: (N,) ends of its interval. spread: (N,) standard
        deviation over draws, NaN with a single one. draws: (N, K).
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    spread: np.ndarray
    draws: np.ndarray


@functools.cache
def _programs(route: Route):
    """Jitted (encode, answer); equal systems share them."""

    def encode(parameters, features, said):
        lengths = path.find_lengths(features, said)
        return lengths, path.encode(route, parameters, features, lengths)

    answer = functools.partial(path.answer, route)
    return jax.jit(encode), jax.jit(answer, static_argnames=("draws", "level"))


class Imputer:
    """A trained system in use; `load` or `fit` one.

    Attributes:
      of_conversations: whether utterances are completed from their neighbours, too.
      modalities: `inputs.Modality` of each, in order.
      signature: how it was made, plain values.
    """

    of_conversations = False

    def __init__(self, config, batch: int = 64):
        """An untrained one.

        Args:
          config: as a config file's `get_config()` returns, or its plain values.
          batch: utterances times draws of a compiled call. The first call compiles; later ones, of
            any number of utterances, do not.
        """
        values = config.to_dict() if hasattr(config, "to_dict") else config
        given = isinstance(values, configs.Config)
        self.config = values if given else configs.from_dict(values)
        self.batch, self.parameters, self.signature = batch, None, {}

    @classmethod
    def load(cls, folder, seed: int | None = None, batch: int = 64) -> Imputer:
        """From the workdir of a finished run, or a model's own folder.

        Args:
          seed: of the run; its first by default. batch: see `__init__`.

        Raises:
          UserError: there is no model, or a damaged one.

        Returns:
          One of `serving.conversations.ConversationImputer` where the model is of conversations.
        """
        found = bundle.load(bundle.find(Path(folder), seed))
        values = dict(found.signature["config"])
        if values["method"] == "gsdnet":
            from mmdjax.serving.conversations import ConversationImputer as cls
        elif cls.of_conversations:
            raise UserError(
                f"{str(folder)!r} holds a model of method {values['method']!r}; allowed: gsdnet "
                "(mmdjax.Imputer.load loads any)"
            )
        imputer = cls(values, batch)
        imputer._use(found)
        return imputer

    def _use(self, found: bundle.Bundle) -> None:
        about, arrays = found
        names = tuple(m["name"] for m in about["modalities"])
        self.signature = about
        self.modalities = tuple(
            inputs.Modality(m["name"], m["key"], m["frames"], m["channels"])
            for m in about["modalities"]
        )
        self.route = Route(build(self.config, names), self.config.diffusion)
        scale = path.Scale(**arrays["latents"])
        fields = {k: arrays[k] for k in Parameters._fields if k != "latents"}
        self.parameters = jax.device_put(Parameters(latents=scale, **fields))
        self._encode, self._answer = _programs(self.route)

    def fit(
        self, features, labels, workdir=None, validation: float = 0.2, seed: int = 0
    ) -> Imputer:
        """Trains on utterances of which nothing is missing.

        Args:
          features: modality -> (N, T_m, C_m), or N arrays (T_i, C_m). Utterances with gaps are left
            out, and said.
          labels: (N,) sentiment.
          workdir: for checkpoints and the model, to go on after a stop; by default a temporary one.
          validation: share of the utterances that training stops and intervals are calibrated by,
            chosen at random by `seed`.

        Raises:
          UserError: too few complete utterances, or what they may not be.
        """
        from mmdjax.serving.fit import train

        self._use(train(self.config, features, labels, workdir, validation, seed))
        return self

    def impute(self, features, observed=None, draws: int = 1, seed: int = 0) -> Imputed:
        """Draws what is missing.

        Args:
          features, observed: see `inputs.read`.
          draws: K completions of every utterance. seed: of all draws. An utterance's draws depend
            on these and its own values alone.

        Raises:
          UserError: names modality and utterance.
        """
        return imputed(self._answers(features, observed, draws, seed, LEVELS[0], whole=True))

    def predict(
        self, features, observed=None, draws: int | None = None, seed: int = 0, level: float = 0.9
    ) -> Predicted:
        """Predicts from completed utterances.

        Args:
          features, observed, seed: see `impute`.
          draws: K that are averaged; by default what the model was calibrated with.
          level: share of labels that the interval is to cover, of `interval.LEVELS`.

        Raises:
          UserError: names modality and utterance; an unknown level.
        """
        choice("level", level, LEVELS)
        draws = self.signature.get("draws") if draws is None else draws
        found = self._answers(features, observed, draws, seed, level, whole=False)
        return Predicted(**{name: found[name] for name in Predicted._fields})

    def _answers(self, features, observed, draws, seed: int, level: float, whole: bool) -> dict:
        """`path.answer` to all rows; features among it if `whole`."""
        self._check(draws, seed)
        given = inputs.read(self.modalities, features, observed)
        size, every = max(1, self.batch // draws), np.arange(len(given))
        encode = functools.partial(self._encode, self.parameters)
        lengths, encoded = in_calls(encode, (given.features, given.said), every, size)
        z, cover, valid, number = encoded
        self._check_gaps(given.features, lengths)
        mask = filled_valid(valid, (cover > 0).any(-1))
        bucket = bucket_of(mask, self.config.data.length_buckets)
        missing = (mask & (cover < WHOLE)).any(-1) @ (1 << np.arange(mask.shape[1]))

        def answer(z, cover, valid, number, given):
            arguments = (z, cover, valid, number, np.uint32(seed), given)
            return self._answer(self.parameters, *arguments, draws=draws, level=level)

        parts, order, shown = [], [], (given.features, lengths) if whole else None
        for index, cut in enumerate(self.config.data.length_buckets):
            # Alike together: what no row of a call misses is not drawn.
            rows = np.flatnonzero(bucket == index)
            rows = rows[np.argsort(missing[rows], kind="stable")]
            if rows.size:
                latents = (a[:, :, :cut] for a in (z, cover, valid))
                parts.append(in_calls(answer, (*latents, number, shown), rows, size))
                order.append(rows)
        back = np.argsort(np.concatenate(order))
        return jax.tree.map(lambda *a: np.concatenate(a)[back], *parts)

    def _check(self, draws: int, seed: int) -> None:
        if self.parameters is None:
            raise UserError("the imputer is not trained; use Imputer.load(workdir) or fit")
        whole = isinstance(draws, int | np.integer) and isinstance(seed, int | np.integer)
        if not whole or draws < 1 or not 0 <= seed < 2**32:
            raise UserError(
                f"draws = {draws}, seed = {seed}; allowed: whole numbers, 1 or more and 0 to "
                f"{2**32 - 1}"
            )

    def _check_gaps(self, features, lengths) -> None:
        """Raises `UserError` where frames are missing that this model has not learned to draw."""
        if self.signature["frame_gaps"]:
            return
        for m, x in features.items():
            gaps = np.isnan(x).any(-1) & (np.arange(x.shape[1]) < lengths[m][:, None])
            if gaps.any():
                raise UserError(
                    f"{m}: utterance {np.argmax(gaps.any(1))} lacks some of its frames; this model "
                    "was trained for whole modalities; allowed: all frames or none, or a model "
                    "trained with config.diffusion.frame_gaps above 0"
                )


def imputed(found: dict) -> Imputed:
    """Of 'features' (N, K, T_m, C_m) and the rest that `path.answer` returns."""
    draws = next(iter(found["features"].values())).shape[1]
    made = {
        m: x[:, 0] if draws == 1 else np.moveaxis(x, 1, 0) for m, x in found["features"].items()
    }
    return Imputed(made, found["drawn"], found["exists"], found["deviation"])


def in_calls(function: Callable, arrays, rows: np.ndarray, size: int):
    """function over `rows` of a tuple of pytrees, `size` at a time; the last repeats some."""
    parts = []
    for start in range(0, len(rows), size):
        chosen = rows[start : start + size]
        padded, count = np.resize(chosen, size), len(chosen)
        result = function(*jax.tree.map(lambda a, at=padded: a[at], arrays))
        parts.append(jax.tree.map(lambda a, n=count: np.asarray(a)[:n], result))
    return jax.tree.map(lambda *a: np.concatenate(a), *parts)
