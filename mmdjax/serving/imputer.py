"""The Python interface: give utterances with gaps, get them completed, or predictions from them.

imputer = mmdjax.Imputer.load("runs/synthetic")
filled = imputer.impute({"language": x, "acoustic": None}, draws=8)
predicted = imputer.predict({"language": x, "acoustic": None})
print(filled.features["acoustic"].shape, predicted.mean, predicted.low, predicted.high)

Models of conversations, such as GSDNet, complete an utterance from its neighbours, too:

imputer.predict(features, conversation=["a", "a", "b"], speaker=["Ann", "Bob", "Ann"])
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from mmdjax import config as configs
from mmdjax import tasks
from mmdjax.errors import UserError, choice
from mmdjax.methods.method import of_name
from mmdjax.serving import bundle, calls, inputs, rows
from mmdjax.tasks.conformal import LEVELS


class Imputed(NamedTuple):
    """N utterances, completed.

    Attributes:
      features: modality -> (N, T_m, C_m) float32, and (K, N, T_m, C_m) of K > 1 draws; observed
        values are copied bit for bit, 0 after an utterance's end.
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
    """Predictions for N utterances; what the model's task has not is None.

    Attributes:
      mean: (N,) or (N, outputs) average over draws: numbers, or probabilities.
      spread: over draws, see `Task.spread`; NaN with a single one.
      draws: (N, K) or (N, K, outputs), of each draw.
      low, high: ends of the intervals, in the shape of `mean`; of several labels 0 or 1, where a
        label is certainly present or cannot be excluded.
      within: (N, outputs) bool, the classes or labels that cannot be excluded at the level.
      names: of classes, labels or outputs; () of a single number.
    """

    mean: np.ndarray
    spread: np.ndarray
    draws: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    within: np.ndarray | None = None
    names: tuple[str, ...] = ()


class Imputer:
    """A trained system in use; `load` or `fit` one.

    Attributes:
      modalities: `inputs.Modality` of each, in order.
      task: what a label is, of `mmdjax.tasks`.
      lengths: latent frames, or utterances of a conversation, that rows are cut to.
      signature: how the model was made, plain values.
    """

    def __init__(self, config, batch: int = 64):
        """Make an untrained one.

        Args:
          config: as a config file's `get_config()` returns, or its plain values.
          batch: rows times draws of a compiled call. The first call compiles; later ones, of any
            number of utterances, do not.
        """
        values = config.to_dict() if hasattr(config, "to_dict") else config
        ready = isinstance(values, configs.Config)
        self.config = values if ready else configs.from_dict(values)
        self.batch, self.parameters, self.signature = batch, None, {}

    @property
    def of_conversations(self) -> bool:
        """Whether utterances are completed from their neighbours, too."""
        return of_name(self.config.method).sees == "conversations"

    @property
    def longest(self) -> int:
        """Utterances of a conversation, at most."""
        return self.lengths[-1]

    @classmethod
    def load(cls, folder, seed: int | None = None, batch: int = 64) -> Imputer:
        """Load a model from the workdir of a finished run, or from its own folder.

        Args:
          seed: of the run; its first by default. batch: see `__init__`.

        Raises:
          UserError: there is no model, or a damaged one.
        """
        model = bundle.load(bundle.find(Path(folder), seed))
        imputer = cls(dict(model.signature["config"]), batch)
        imputer._use(model)
        return imputer

    def _use(self, model: bundle.Bundle) -> None:
        self.signature, parameters = model
        self.task = tasks.from_dict(self.signature["task"])
        self.lengths = tuple(self.signature["lengths"])
        self.modalities = tuple(
            inputs.Modality(m["name"], m["key"], m["frames"], m["channels"])
            for m in self.signature["modalities"]
        )
        names = tuple(m.name for m in self.modalities)
        self.route = of_name(self.config.method).route(self.config, names, self.task)
        self.parameters = jax.device_put(parameters)
        self._encode, self._answer = calls.programs(self.route)

    def fit(
        self,
        features,
        labels,
        workdir=None,
        validation: float = 0.2,
        seed: int = 0,
        *,
        conversation=None,
        speaker=None,
        position=None,
    ) -> Imputer:
        """Train on utterances of which nothing is missing.

        Args:
          features: modality -> (N, T_m, C_m), or N arrays (T_i, C_m); of conversations (N, C_m).
            Utterances with gaps are left out.
          labels: (N,) numbers, classes (whole numbers or names), or (N, outputs); `config.task`
            says which.
          workdir: for checkpoints and the model, to go on after a stop; by default a temporary one.
          validation: share of the utterances, or of the conversations, that training stops by and
            intervals are calibrated on, chosen at random by `seed`.
          conversation, speaker, position: see `rows.read_talk`; only where the method sees
            conversations.

        Raises:
          UserError: too few complete utterances, or arguments that are not as described.
        """
        from mmdjax.serving.fit import train

        talk = self._talk(len(labels), conversation, speaker, position)
        self._use(train(self.config, features, labels, talk, workdir, validation, seed))
        return self

    def impute(
        self,
        features,
        observed=None,
        draws: int = 1,
        seed: int = 0,
        *,
        conversation=None,
        speaker=None,
        position=None,
    ) -> Imputed:
        """Draw what is missing.

        Args:
          features, observed: see `inputs.read`.
          draws: K completions of every utterance.
          seed: of all draws. An utterance's (or conversation's) draws depend on these and on its
            own values alone.
          conversation, speaker, position: see `rows.read_talk`; only where the model sees
            conversations.

        Raises:
          UserError: names modality and utterance; the method completes no features.
        """
        given, talk = self._read(features, observed, draws, seed, conversation, speaker, position)
        if not self.route.features:
            raise UserError(
                f"a model of method {self.config.method!r} completes no features; allowed: predict"
            )
        answer = self._answers(given, talk, draws, seed, LEVELS[0], whole=True)
        completed = {
            m: x[:, 0] if draws == 1 else np.moveaxis(x, 1, 0)
            for m, x in answer["features"].items()
        }
        return Imputed(completed, answer["drawn"], answer["exists"], answer["deviation"])

    def predict(
        self,
        features,
        observed=None,
        draws: int | None = None,
        seed: int = 0,
        level: float = 0.9,
        *,
        conversation=None,
        speaker=None,
        position=None,
    ) -> Predicted:
        """Predict from completed utterances.

        Args:
          features, observed, seed, conversation, speaker, position: see `impute`.
          draws: K that are averaged; by default what the model was calibrated with.
          level: share of labels that intervals or sets are to cover, of
            `mmdjax.tasks.conformal.LEVELS`.

        Raises:
          UserError: names modality and utterance; an unknown level.
        """
        choice("level", level, LEVELS)
        draws = self.signature.get("draws") if draws is None else draws
        given, talk = self._read(features, observed, draws, seed, conversation, speaker, position)
        answer = self._answers(given, talk, draws, seed, level, whole=False)
        return Predicted(**answer, names=self.task.names)

    def _read(self, features, observed, draws, seed, conversation, speaker, position):
        """Return the checked request."""
        if self.parameters is None:
            raise UserError("the imputer is not trained; use Imputer.load(workdir) or fit")
        whole = isinstance(draws, int | np.integer) and isinstance(seed, int | np.integer)
        if not whole or draws < 1 or not 0 <= seed < 2**32:
            raise UserError(
                f"draws = {draws}, seed = {seed}; allowed: whole numbers, 1 or more and 0 to "
                f"{2**32 - 1}"
            )
        given = inputs.read(self.modalities, features, observed)
        return given, self._talk(len(given), conversation, speaker, position)

    def _talk(self, size: int, conversation, speaker, position) -> rows.Talk | None:
        if self.of_conversations:
            return rows.read_talk(size, conversation, speaker, position)
        columns = {"conversation": conversation, "speaker": speaker, "position": position}
        rows.refuse_talk(self.config.method, **columns)
        return None

    def _answers(self, given: inputs.Given, talk, draws, seed, level, whole: bool) -> dict:
        """Return `Route.answer` to all utterances, (N, ...); features among it if `whole`."""
        groups = rows.of_utterances(given)
        if talk is not None:
            groups = rows.of_conversations(given, talk, self.lengths)
        parts, members, size = [], [], max(1, self.batch // draws)
        answer = functools.partial(self._answer, self.parameters, draws=draws, level=level)
        for group in groups:
            encode = functools.partial(self._encode, self.parameters)
            encoded = calls.in_calls(encode, group[:3], np.arange(len(group.members)), size)
            self._check_gaps(group.features, encoded.lengths)
            for chosen, arrays in calls.alike(
                self.route, encoded, group.features, self.lengths, whole
            ):
                valid = group.members >= 0 if talk is not None else None
                ask = functools.partial(calls.ask, answer, np.uint32(seed), whole)
                parts.append(calls.in_calls(ask, arrays, chosen, size, valid))
                here = group.members[chosen]
                members.append(here if valid is None else here[valid[chosen]])
        back = np.argsort(np.concatenate(members))
        joined = jax.tree.map(lambda *a: np.concatenate(a)[back], *parts)
        return joined if talk is None else rows.as_frames(joined)

    def _check_gaps(self, features, lengths) -> None:
        """Raise `UserError` where frames are missing that this model has not learned to draw."""
        if self.signature["frame_gaps"]:
            return
        for m, end in lengths.items():
            x = features[m]
            gaps = np.isnan(x).any(-1) & (np.arange(x.shape[1]) < end[:, None])
            if gaps.any():
                raise UserError(
                    f"{m}: utterance {np.argmax(gaps.any(1))} lacks some of its frames; this model "
                    "was trained for whole modalities; allowed: all frames or none, or a model "
                    "trained with config.diffusion.frame_gaps above 0"
                )
