"""The Python interface: give utterances with gaps, get them completed, or predictions from them.

imputer = mmdjax.Imputer.load("runs/synthetic")
filled = imputer.impute({"language": x, "acoustic": None}, draws=8)
predicted = imputer.predict({"language": x, "acoustic": None})
print(filled.features["acoustic"].shape, predicted.mean, predicted.low, predicted.high)

Models of conversations, such as GSDNet, complete an utterance from its neighbours, too:

imputer.predict(features, conversation=["a", "a", "b"], speaker=["Ann", "Bob", "Ann"])
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mmdjax import config as configs
from mmdjax import tasks
from mmdjax.config.sizes import auto
from mmdjax.errors import UserError, choice, require
from mmdjax.methods.method import of_name
from mmdjax.serving import answers, bundle, calls, inputs, rows, shown
from mmdjax.serving.answers import Imputed, Predicted
from mmdjax.serving.calls import Progress, Settings
from mmdjax.tasks.conformal import LEVELS
from mmdjax.types import Talk

MOST_DRAWS = 1024  # of an utterance; all of them are in memory at once


class Imputer:
    """A trained system in use; `load` or `fit` one.

    It follows the conventions of scikit-learn (`get_params`, `set_params`, `fit`, `transform`,
    `predict`), so that `sklearn.base.clone` makes an untrained copy. Features are dicts instead of
    matrices.

    Attributes:
      modalities: `inputs.Modality` of each, in order.
      task: what a label is, of `mmdjax.tasks`.
      lengths: latent frames, or utterances of a conversation, that rows are cut to.
      signature: how the model was made, plain values.
    """

    def __init__(self, config: Any = None, batch: int = 64, verbose: bool = True) -> None:
        """Make an untrained one.

        Args:
          config: as a config file's `get_config()` returns, or its plain values; by default one
            whose sizes follow from the data that it is fitted to.
          batch: rows times draws of a compiled call. The first call compiles; later ones, of any
            number of utterances, do not.
          verbose: whether `fit` prints what it is doing.
        """
        self._params = {"config": config, "batch": batch, "verbose": verbose}
        config = auto() if config is None else config
        values = config.to_dict() if hasattr(config, "to_dict") else config
        ready = isinstance(values, configs.Config)
        self.config = self._given = values if ready else configs.from_dict(values)
        self.batch, self.verbose = batch, verbose
        self.parameters, self.signature = None, {}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the arguments of the constructor, as they were given."""
        return dict(self._params)

    def set_params(self, **params: Any) -> Imputer:
        """Change arguments of the constructor; another `config` makes it untrained.

        Raises:
          UserError: there is no such argument.
        """
        for name in params:
            choice("parameter", name, tuple(self._params))
        if "config" in params:
            self.__init__(**self._params | params)
        self._params |= params
        self.batch, self.verbose = self._params["batch"], self._params["verbose"]
        return self

    def __repr__(self) -> str:
        return shown.text(self)

    def _repr_html_(self) -> str:
        return shown.html(self)

    @property
    def of_conversations(self) -> bool:
        """Whether utterances are completed from their neighbours, too."""
        return of_name(self.config.method).sees == "conversations"

    @property
    def longest(self) -> int:
        """Utterances of a conversation, at most."""
        return self.lengths[-1]

    @classmethod
    def load(cls, folder: str | Path, seed: int | None = None, batch: int = 64) -> Imputer:
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

    def save(self, folder: str | Path) -> None:
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
        params = self._params | {"config": configs.to_dict(self._given)}
        return {"params": params, "model": model}

    def __setstate__(self, state: dict) -> None:
        self.__init__(**state["params"])
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
        self._process = os.getpid()

    def fit(
        self,
        features: Mapping[str, Any],
        labels: Any,
        workdir: str | Path | None = None,
        validation: float = 0.2,
        seed: int = 0,
        **talk: Any,
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
        how = validation, seed, self.verbose
        self._use(fit(self._given, features, labels, where, workdir, *how))
        return self

    def transform(self, features: Mapping[str, Any], **settings: Any) -> dict[str, np.ndarray]:
        """Return the features with what is missing drawn once; settings as of `impute`."""
        return self.impute(features, **settings).features

    def impute(
        self,
        features: Mapping[str, Any],
        observed: Any = None,
        draws: int = 1,
        seed: int = 0,
        progress: Progress | None = None,
        **talk: Any,
    ) -> Imputed:
        """Draw what is missing.

        Args:
          features, observed: see `inputs.read`.
          draws: K completions of every utterance.
          seed: of all draws. An utterance's (or conversation's) draws depend on these and on its
            own values alone.
          progress: called with the numbers of utterances done and of all, now and then.
          talk: conversation, speaker, position, see `rows.read_talk`; only of methods that see
            conversations.

        Raises:
          UserError: names modality and utterance; the method completes no features.
        """
        how = Settings(draws, seed, LEVELS[0], True, progress)
        answer = self._answers(features, observed, how, talk)
        for m, x in answer["features"].items():
            answer["features"][m] = x[:, 0] if draws == 1 else np.moveaxis(x, 1, 0)
        names = ("features", "drawn", "exists", "deviation")
        return Imputed(*(answer[name] for name in names))

    def predict(
        self,
        features: Mapping[str, Any],
        observed: Any = None,
        draws: int | None = None,
        seed: int = 0,
        level: float = 0.9,
        progress: Progress | None = None,
        **talk: Any,
    ) -> Predicted:
        """Predict from completed utterances.

        Args:
          features, observed, seed, progress, talk: see `impute`.
          draws: K that are averaged; by default what the model was calibrated with.
          level: share of labels that intervals or sets are to cover, of
            `mmdjax.tasks.conformal.LEVELS`.

        Raises:
          UserError: names modality and utterance; an unknown level.
        """
        draws = self.signature.get("draws", 1) if draws is None else draws
        how = Settings(draws, seed, level, False, progress)
        answer = self._answers(features, observed, how, talk)
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

    def _talk(
        self, size: int, conversation: Any = None, speaker: Any = None, position: Any = None
    ) -> Talk | None:
        if self.of_conversations:
            return rows.read_talk(size, conversation, speaker, position)
        columns = {"conversation": conversation, "speaker": speaker, "position": position}
        model = f"a model of method {self.config.method!r} completes utterances one by one"
        for name, column in columns.items():
            require(column is None, f"{name} is given, and {model}", "features alone")
        return None

    def _answers(
        self, features: Mapping[str, Any], observed: Any, how: Settings, talk: Mapping[str, Any]
    ) -> dict:
        """Return `Route.answer` to all utterances, (N, ...)."""
        if self.parameters is None:
            raise UserError("the imputer is not trained; use Imputer.load(workdir) or fit")
        # A fork has none of the threads of the process it was made of, for which JAX would wait.
        require(
            self._process == os.getpid(),
            "an imputer in a process that was forked from the one that made it",
            "processes that are spawned, or Imputer.load in each of them",
        )
        self.check_settings(how.draws, how.seed, how.level)
        given = inputs.read(self.modalities, features, observed)
        where = self._talk(len(given), **talk)
        problem = f"a model of method {self.config.method!r} completes no features"
        require(self.route.features or not how.whole, problem, "predict")
        if not given.left_out:
            return calls.answered(self, given, where, how)
        kept = answers.kept(given)
        where = where and Talk(*(column[kept] for column in where))
        found = calls.answered(self, given.at(kept), where, how)
        return answers.spread_out(found, kept, len(given))
