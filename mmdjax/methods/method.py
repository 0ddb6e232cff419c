"""The contract of a method: how what is missing is completed, and how the label is predicted.

A method is one file in this folder: a class that derives from `Method` and is decorated with
`@register`. Whatever trains, evaluates, reports and serves methods reads nothing but this contract,
so a new method appears in comparisons, reports, resumed runs, `mmdjax.Imputer` and exports without
another change.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import jax
import numpy as np

from mmdjax.errors import UserError, choice
from mmdjax.training.settings import Training
from mmdjax.training.step import Source
from mmdjax.training.streams import phase_keys, stream
from mmdjax.types import Observed, Params

if TYPE_CHECKING:
    from mmdjax.data.dataset import Dataset
    from mmdjax.runtime.progress import Reporter

__all__ = ["Completion", "Method", "Phase", "Served", "phase_keys", "register", "stream"]

DEFAULT = "two_stage"
# What a system of an earlier version's comparison was shown by -> the method that it is now.
FORMER = {
    "diffusion": "two_stage",
    "diffusion_k1": "two_stage, and the change 'evaluation.draws=1'",
}
# What every phase reads of a config, and what no phase reads (`fingerprint`).
ALWAYS = ("data", "task")
SOLVER = tuple(
    f"diffusion.{name}"
    for name in ("recipe", "sampler", "sampler_options", "grid", "grid_options", "nfe")
) + ("diffusion.prior", "diffusion.guidance", "diffusion.coupling", "diffusion.dtype")
LEARNED = tuple(
    f"diffusion.{name}"
    for name in ("sde", "conditioning", "weighting", "unconditional", "frame_gaps")
)


class Phase(NamedTuple):
    """One thing that is trained.

    Attributes:
      name: of its folder and of its random stream; systems whose phases agree in name and in what
        they read share them.
      title: for messages and for the report.
      reads: the groups or fields of the config that it depends on, beside `ALWAYS`, with those of
        the phases whose parameters it starts from.
      settings: how it is trained.
      loss: (params, data, weight, key, frames) -> scalar, see `training.step`.
      init: (key, parameters of earlier phases by name) -> params.
      load: (parameters of earlier phases, seed, place) -> (`Source`, validate); called where
        something is left to train. validate: params -> float, lower is better. place: (name,
        reads) -> folder, for what is made once and kept.
      bucket: (N,) index into `buckets` of each training sample. buckets: lengths.
      expects: () -> (shapes of params, `Source` of shapes), so that the training step compiles
        ahead of time; None where they are not known before.
    """

    name: str
    title: str
    reads: tuple[str, ...]
    settings: Training
    loss: Callable
    init: Callable[[jax.Array, Mapping[str, Any]], Any]
    load: Callable[[Mapping[str, Any], int, Callable], tuple[Source, Callable]]
    bucket: np.ndarray
    buckets: Sequence[int]
    expects: Callable[[], tuple[Any, Source]] | None = None


class Completion(NamedTuple):
    """N utterances under Q conditions, each completed K times, in the method's own space.

    Attributes:
      x: pytree of arrays (Q, N, K, ...), as `Method.predict` takes them.
      observed: what was given.
      nfe: network evaluations of each drawn item; 0 where nothing is drawn.
      rows: (N,) the numbers of these utterances in their split; None for all of it.
    """

    x: Any
    observed: Observed
    nfe: int = 0
    rows: np.ndarray | None = None

    def first(self, draws: int) -> Completion:
        """Return the first draws alone."""
        return self._replace(x=jax.tree.map(lambda a: a[:, :, :draws], self.x))


class Served(NamedTuple):
    """What serving a trained method needs; see `mmdjax.methods.served`.

    Attributes:
      arrays: nested dicts of arrays, the parameters of `Method.route`.
      explained: modality -> share of the validation split's variance that comes back in features
        from exact completions.
      about: plain values for the model's signature. 'frame_gaps': whether frames inside a modality
        may be missing; 'lengths': increasing lengths to which rows are cut, in latent frames, or in
        utterances of a conversation; 'predictor': the name of the classifier that was chosen.
    """

    arrays: dict
    explained: dict[str, float]
    about: dict


class Method:
    """A method bound to a config and a data set.

    Class attributes:
      name: in configs. label: in tables. published: name in the published tables, '' if none.
      sees: 'utterances', which are completed one by one, or 'conversations'.
      draws: whether completions are random, so that K of them are averaged.
      streams: whether features may be read from files in use (`mmdjax.data.stored`), and `complete`
        and `truth` take a part of a split, `rows`.
      yardstick: an optimum or a probe: last in tables, never bold.
      options: dataclass of settings of its own, the config's group of the method's name.
      gaps: whether it can be given some frames of a modality and not others.
      tasks: kinds of task that it can do, () for all.
      pages: module whose `sections` adds to the report, '' for none.
      serving: module with `served(method, params, seed)` -> `Served` and `route(config, modalities,
        task)` -> `mmdjax.methods.served.Route`; '' for a method that cannot be served.
      completes: what the completion depends on: its kind, then names of phases and config fields;
        () for its name alone. Systems that agree in it, and in those phases, are completed once.
      companions: methods that a run of this one shows beside it, each as 'name field=value ...'.
    """

    name: ClassVar[str] = ""
    label: ClassVar[str] = ""
    published: ClassVar[str] = ""
    sees: ClassVar[str] = "utterances"
    draws: ClassVar[bool] = False
    streams: ClassVar[bool] = False
    yardstick: ClassVar[bool] = False
    options: ClassVar[type | None] = None
    companions: ClassVar[tuple[str, ...]] = ("linear_probe", "bayes")
    gaps: ClassVar[bool] = False
    pages: ClassVar[str] = ""
    serving: ClassVar[str] = ""
    completes: ClassVar[tuple[str, ...]] = ()
    tasks: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: Any, dataset: Dataset, reporter: Reporter) -> None:
        """config: `mmdjax.config.Config`. dataset: `mmdjax.data.dataset.Dataset`."""
        self.config, self.dataset, self.reporter = config, dataset, reporter
        self.task, self.modalities = dataset.task, dataset.modalities

    @classmethod
    def check(cls, config: Any) -> None:
        """Raise `UserError` where the config asks for what the method cannot do."""

    @classmethod
    def describe(cls, config: Any, label: str) -> str:
        """Return the default name in tables of a system with this config."""
        return label

    @classmethod
    def warm(cls, config: Any, modalities: tuple[str, ...]) -> None:
        """Start compiling what is known from the config alone, while the data are read."""

    @property
    def phases(self) -> tuple[Phase, ...]:
        """What is trained, in order; a yardstick has none."""
        return ()

    def complete(
        self,
        params: Params,
        split: str,
        observed: Observed,
        draws: int,
        key: jax.Array,
        title: str,
        rows: np.ndarray | None = None,
    ) -> Completion:
        """Complete a split under every condition.

        Args:
          params: phase -> its parameters.
          split: 'valid' or 'test'.
          draws: K; methods that do not draw return one.
          key: of the randomness; with the utterance and the draw's number it is all of it.
          title: for the progress bar, '' for none.
          rows: (N,) the utterances of the split that `observed` is about; all by default. Others
            are given to methods with `streams` alone, which need not take it without.
        """
        raise NotImplementedError

    def predict(self, params: Params, split: str, completion: Completion) -> np.ndarray:
        """Return predictions (Q, N, K, ...), as the task's `read` gives them."""
        raise NotImplementedError

    def truth(
        self, params: Params, split: str, rows: np.ndarray | None = None
    ) -> tuple[tuple[np.ndarray, np.ndarray], ...] | None:
        """Return what `compared` is to be: for each modality x (N, T, C) and its frames (N, T).

        Args:
          rows: see `complete`.
        """
        return None

    def compared(self, params: Params, completion: Completion, modality: int) -> np.ndarray:
        """Return completions of one modality (Q, N, K, T, C), in the space of `truth`."""
        raise NotImplementedError

    def draw_call(self) -> tuple[Callable, dict[str, Any]] | None:
        """Return () -> (draws, NFE) of a full batch with untrained parameters, and what is known of
        it: 'parameters' of one modality's network and 'batch'; None where nothing is drawn."""
        return None

    @classmethod
    def server(cls) -> ModuleType:
        """Return the module of `serving`.

        Raises:
          UserError: the method cannot be served.
        """
        if not cls.serving:
            raise UserError(f"method {cls.name!r} cannot be served; allowed: {servable()}")
        return importlib.import_module(cls.serving)


_REGISTRY: dict[str, type[Method]] = {}


def register(
    name: str, *, label: str, published: str = "", options: type | None = None
) -> Callable[[type[Method]], type[Method]]:
    """Decorate a `Method` with its name in configs, its label in tables, and its settings."""

    def add(cls):
        cls.name, cls.label, cls.published, cls.options = name, label, published, options
        _REGISTRY[name] = cls
        return cls

    return add


def registry() -> dict[str, type[Method]]:
    """Return name -> method, of every file in `mmdjax.methods`."""
    package = importlib.import_module("mmdjax.methods")
    for module in sorted(m.name for m in pkgutil.iter_modules(package.__path__) if not m.ispkg):
        importlib.import_module(f"mmdjax.methods.{module}")
    return dict(_REGISTRY)


def options_group(cls: type[Method]) -> tuple[str, ...]:
    """Return the config's group of a method's own options, () where it has none.

    Methods that share a class of options share the group, which has the name of the first.
    """
    if cls.options is None:
        return ()
    return (next(name for name, other in registry().items() if other.options is cls.options),)


def of_name(name: str) -> type[Method]:
    """Return a method; raise `UserError` for a name that is not registered."""
    found = registry()
    choice("method", name, tuple(found))
    return found[name]


def servable() -> str:
    """Return the names of the methods that can be served."""
    return ", ".join(name for name, cls in registry().items() if cls.serving)
