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
import os
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from mmdjax import config as configs
from mmdjax import tasks
from mmdjax.config.sizes import auto
from mmdjax.errors import UserError, choice, require
from mmdjax.methods.method import of_name
from mmdjax.methods.served import Route
from mmdjax.serving import answers, bundle, inputs, rows
from mmdjax.serving.answers import Imputed, Predicted
from mmdjax.tasks.conformal import LEVELS
from mmdjax.types import Talk

MOST_DRAWS = 1024  # of an utterance; all of them are in memory at once
# The axis of frames; an utterance of a conversation has one.
FRAMES = {"features": 2, "drawn": 1, "exists": 1}


@functools.cache
def programs(route: Route) -> tuple[Callable, Callable]:
    """Return the jitted `encode` and `answer` of a route; equal routes share them."""
    return jax.jit(route.encode), jax.jit(route.answer, static_argnames=("draws", "level"))


class Imputer:
    """A trained system in use; `load` or `fit` one.

    Attributes:
      modalities: `inputs.Modality` of each, in order.
      task: what a label is, of `mmdjax.tasks`.
      lengths: latent frames, or utterances of a conversation, that rows are cut to.
      signature: how the model was made, plain values.
    """

    def __init__(self, config=None, batch: int = 64):
        """Make an untrained one.

        Args:
          config: as a config file's `get_config()` returns, or its plain values; by default one
            whose sizes follow from the data that it is fitted to.
          batch: rows times draws of a compiled call. The first call compiles; later ones, of any
            number of utterances, do not.
        """
        config = auto() if config is None else config
        values = config.to_dict() if hasattr(config, "to_dict") else config
        ready = isinstance(values, configs.Config)
        self.config = self._given = values if ready else configs.from_dict(values)
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

    def save(self, folder) -> None:
        """Write the model into a new folder, which `load` reads.

        Raises:
          UserError: it is not trained, or the folder holds a model.
        """
        folder = Path(folder)
        require(self.parameters is not None, "an imputer that is not trained", "fit it first")
        held = (folder / bundle.NAMES[0]).exists()
        require(not held, f"{str(folder)!r} holds a model", "a new folder")
        folder.mkdir(parents=True, exist_ok=True)
        bundle.save(folder, self._model())

    def _model(self) -> bundle.Bundle:
        return bundle.Bundle(self.signature, jax.tree.map(np.asarray, self.parameters))

    def __getstate__(self) -> dict:
        """Return what makes it again anywhere: plain values and arrays of numpy."""
        model = None if self.parameters is None else tuple(self._model())
        return {"config": configs.to_dict(self._given), "batch": self.batch, "model": model}

    def __setstate__(self, state: dict) -> None:
        self.__init__(state["config"], state["batch"])
        if state["model"] is not None:
            self._use(bundle.Bundle(*state["model"]))

    def _use(self, model: bundle.Bundle) -> None:
        self.signature, parameters = model
        self.config = configs.from_dict(self.signature["config"])  # with sizes that fitted the data
        self.task = tasks.from_dict(self.signature["task"])
        self.lengths = tuple(self.signature["lengths"])
        self.modalities = tuple(inputs.Modality(**m) for m in self.signature["modalities"])
        names = tuple(m.name for m in self.modalities)
        self.route = of_name(self.config.method).server().route(self.config, names, self.task)
        self.parameters = jax.device_put(parameters)
        self._encode, self._answer = programs(self.route)
        self._process = os.getpid()

    def fit(
        self, features, labels, workdir=None, validation: float = 0.2, seed: int = 0, **talk
    ) -> Imputer:
        """Train on utterances, of which any may lack modalities, frames or the label.

        Args:
          features: modality -> (N, T_m, C_m), or N arrays (T_i, C_m); of conversations (N, C_m).
            NaN, or None for a modality, where something is missing.
          labels: (N,) numbers, classes (whole numbers or names), or (N, outputs), NaN where there
            is none; `config.task` says which.
          workdir: for checkpoints and the model, to go on after a stop; by default a temporary one.
          validation: share of the utterances, or of the conversations, that training stops by and
            intervals are calibrated on, chosen at random by `seed`.
          talk: conversation, speaker, position; see `impute`.

        Raises:
          UserError: too few utterances with a label, or arguments that are not as described.
        """
        from mmdjax.serving.fit import fit

        where = self._talk(len(labels), **talk)
        self._use(fit(self._given, features, labels, where, workdir, validation, seed))
        return self

    def impute(self, features, observed=None, draws: int = 1, seed: int = 0, **talk) -> Imputed:
        """Draw what is missing.

        Args:
          features, observed: see `inputs.read`.
          draws: K completions of every utterance.
          seed: of all draws. An utterance's (or conversation's) draws depend on these and on its
            own values alone.
          talk: conversation, speaker, position, see `rows.read_talk`; only of methods that see
            conversations.

        Raises:
          UserError: names modality and utterance; the method completes no features.
        """
        answer = self._answers(features, observed, draws, seed, LEVELS[0], talk, whole=True)
        for m, x in answer["features"].items():
            answer["features"][m] = x[:, 0] if draws == 1 else np.moveaxis(x, 1, 0)
        names = ("features", "drawn", "exists", "deviation")
        return Imputed(*(answer[name] for name in names))

    def predict(
        self, features, observed=None, draws: int | None = None, seed=0, level=0.9, **talk
    ) -> Predicted:
        """Predict from completed utterances.

        Args:
          features, observed, seed, talk: see `impute`.
          draws: K that are averaged; by default what the model was calibrated with.
          level: share of labels that intervals or sets are to cover, of
            `mmdjax.tasks.conformal.LEVELS`.

        Raises:
          UserError: names modality and utterance; an unknown level.
        """
        draws = self.signature.get("draws", 1) if draws is None else draws
        answer = self._answers(features, observed, draws, seed, level, talk, whole=False)
        return Predicted(**answer, names=self.task.names)

    @staticmethod
    def check_settings(draws: int | None, seed: int = 0, level: float = 0.9) -> None:
        """Raise `UserError` for draws, a seed or a level that `impute` and `predict` cannot take.

        Args:
          draws: None for the model's own.
        """
        choice("level", level, LEVELS)
        whole = isinstance(seed, int | np.integer) and 0 <= seed < 2**32
        require(whole, f"seed = {seed}", f"a whole number from 0 to {2**32 - 1}")
        fits = draws is None or (isinstance(draws, int | np.integer) and 1 <= draws <= MOST_DRAWS)
        require(fits, f"draws = {draws}", f"a whole number from 1 to {MOST_DRAWS}")

    def _talk(self, size: int, conversation=None, speaker=None, position=None) -> Talk | None:
        if self.of_conversations:
            return rows.read_talk(size, conversation, speaker, position)
        columns = {"conversation": conversation, "speaker": speaker, "position": position}
        model = f"a model of method {self.config.method!r} completes utterances one by one"
        for name, column in columns.items():
            require(column is None, f"{name} is given, and {model}", "features alone")
        return None

    def _answers(self, features, observed, draws, seed, level, talk, whole: bool) -> dict:
        """Return `Route.answer` to all utterances, (N, ...); features among it if `whole`."""
        if self.parameters is None:
            raise UserError("the imputer is not trained; use Imputer.load(workdir) or fit")
        # A fork has none of the threads of the process it was made of, for which JAX would wait.
        require(
            self._process == os.getpid(),
            "an imputer in a process that was forked from the one that made it",
            "processes that are spawned, or Imputer.load in each of them",
        )
        self.check_settings(draws, seed, level)
        given = inputs.read(self.modalities, features, observed)
        where = self._talk(len(given), **talk)
        problem = f"a model of method {self.config.method!r} completes no features"
        require(self.route.features or not whole, problem, "predict")
        if given.left_out:
            return self._of_the_others(given, where, draws, seed, level, whole)
        return self._of_all(given, where, draws, seed, level, whole)

    def _of_the_others(self, given: inputs.Given, where, *settings) -> dict:
        kept = answers.kept(given)
        where = where and Talk(*(column[kept] for column in where))
        found = self._of_all(given.at(kept), where, *settings)
        return answers.spread_out(found, kept, len(given))

    def _of_all(self, given: inputs.Given, where, draws, seed, level, whole: bool) -> dict:
        encode = functools.partial(self._encode, self.parameters)

        def answer(encoded, completed):
            seeded = self.parameters, encoded, np.uint32(seed), completed
            return self._answer(*seeded, draws=draws, level=level)

        parts, places, size = [], [], max(1, self.batch // draws)
        for columns, members in rows.groups(given, where, self.lengths):
            x, exists = columns[0], members >= 0
            encoded = rows.in_calls(encode, columns, np.arange(len(members)), size)
            self._check_gaps(x, encoded.lengths)
            for chosen, arrays in rows.alike(self.route, encoded, x, self.lengths, whole):
                parts.append(rows.in_calls(answer, arrays, chosen, size, exists))
                places.append(members[chosen][exists[chosen]])
        order = np.argsort(np.concatenate(places))
        joined = jax.tree.map(lambda *a: np.concatenate(a)[order], *parts)
        for name in joined.keys() & FRAMES.keys() if where is not None else ():
            joined[name] = {m: np.expand_dims(a, FRAMES[name]) for m, a in joined[name].items()}
        return joined

    def _check_gaps(self, features, lengths) -> None:
        """Raise `UserError` where frames are missing that this model has not learned to draw."""
        if self.signature["frame_gaps"]:
            return
        allowed = "all frames or none, or a model trained with config.diffusion.frame_gaps above 0"
        for m, end in lengths.items():
            x = features[m]
            gaps = (np.isnan(x).any(-1) & (np.arange(x.shape[1]) < end[:, None])).any(1)
            problem = f"{m}: utterance {np.argmax(gaps)} lacks some of its frames; this model was"
            require(not gaps.any(), f"{problem} trained for whole modalities", allowed)
