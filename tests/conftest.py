"""NaN raises in every test; and the small pieces that many tests share."""

import getpass
import os
import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple

# A cache of the tests' own, kept between runs: they neither use nor fill the user's.
os.environ["MMDJAX_CACHE"] = os.environ.get(
    "MMDJAX_TEST_CACHE", f"{tempfile.gettempdir()}/mmdjax-tests-{getpass.getuser()}"
)

import jax
import numpy as np
import pytest

from mmdjax import config as configs
from mmdjax.data import pipeline
from mmdjax.data.dataset import Dataset
from mmdjax.diffusion import time_grids
from mmdjax.methods.method import Method, registry
from mmdjax.methods.two_stage import TwoStage
from mmdjax.runtime.progress import Reporter
from mmdjax.training.train import train
from mmdjax.workdir import Places

jax.devices()  # now, so that no command that a test calls divides this process' CPU
jax.config.update("jax_compilation_cache_dir", os.path.join(os.environ["MMDJAX_CACHE"], "compiled"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)

TINY = {
    "data": {"train": 48, "valid": 16, "test": 24, "length_buckets": (4,)},
    "latents": {"frames": 4, "channels": 8},
    "fusion": {"layers": 1, "heads": 2},
    "score": {"width": 16, "layers": 2, "heads": 2, "mlp": 16, "time_features": 8},
    "diffusion": {"nfe": 3},
    "decoder": {"channels": 8, "blocks": 2, "reduction": 4},
    "evaluation": {"draws": 2, "batch": 16},
}
ONCE = {"epochs": 1, "batch": 16}
# Of a method's own options and of conversations, as little as there can be.
TINY_CONVERSATIONS = {
    "rounds": 1,
    "data": {"name": "synthetic_conversations", "train": 12, "valid": 4, "test": 6},
    "graph": {
        "lengths": (16,),
        "components": 4,
        "spectrum_width": 8,
        "edge_width": 4,
        "refine_width": 8,
        "gcn_width": 8,
    },
}
VECTORS = {"width": 8, "training": ONCE}
VIEWS = VECTORS | {"outputs": 4, "classifier": ONCE}
TINY_OPTIONS = {
    "mmin": {"blocks": 2, "teacher": ONCE} | VECTORS,
    "cra": VECTORS,
    "modality_dropout": VECTORS,
    "shaspec": VECTORS,
    "dcca": VIEWS,
    "dccae": VIEWS,
    "dicmor": {"steps": 2, "hidden": 8, "training": ONCE},
    "mctn": {"width": 4, "frames": 4, "training": ONCE},
    "gcnet": {"convolution": 4, "hidden": 8} | VECTORS,
}


@pytest.fixture(autouse=True)
def strict_numerics():
    """NaN raises where a compiled function makes one."""
    with jax.debug_nans(True):
        yield


@pytest.fixture(autouse=True, scope="module")
def programs_of_one_module():
    """Each live program takes memory maps, of which a process has some 65,000: a thousand tests'
    programs end it with a segmentation fault."""
    yield
    jax.clear_caches()


def pytest_collection_modifyitems(items):
    """Files of whole runs, the longest, come first; the others fill up the second process."""
    items.sort(key=lambda item: "end_to_end" not in item.path.parts)


@pytest.fixture(scope="module")
def compiled_in_haste():
    """For modules that spend nearly all of their time compiling programs that run once."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


TABLE = pytest.StashKey[dict]()


@pytest.fixture(scope="session")
def accuracy_table(request) -> dict:
    """SDE -> lines of a table that is printed at the end of the run."""
    return request.config.stash.setdefault(TABLE, {})


def pytest_sessionfinish(session):
    """A worker of pytest-xdist hands its part of the table to the process that prints it."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["accuracy_table"] = session.config.stash.get(TABLE, {})


@pytest.hookimpl(optionalhook=True)  # pytest-xdist's
def pytest_testnodedown(node):
    parts = getattr(node, "workeroutput", {})  # a worker that died has handed over nothing
    node.config.stash.setdefault(TABLE, {}).update(parts.get("accuracy_table", {}))


def pytest_terminal_summary(terminalreporter, config):
    for sde, lines in config.stash.get(TABLE, {}).items():
        terminalreporter.section(f"{sde}: slope, error at 10, 30, 100 NFE")
        grids = "".join(f"{grid:32s}" for grid in time_grids.REGISTRY)
        terminalreporter.write_line(f"{'sampler':20s}{grids}")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def tiny_config() -> configs.Config:
    return configs.from_dict(TINY)


@pytest.fixture(scope="session")
def tiny_dataset(tiny_config, tmp_path_factory) -> Dataset:
    """A small synthetic set of utterances."""
    return pipeline.dataset(tiny_config.data, tiny_config.task, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def tiny_system(tiny_config, tiny_dataset) -> TwoStage:
    """The latent space of a small untrained system."""
    return TwoStage(tiny_config, tiny_dataset, Reporter())


class TinyTrained(NamedTuple):
    """A method that was trained for an epoch, with seed 0.

    Attributes:
      params: phase -> its parameters. history: of the phases, by title.
      places: where they are; `places.phase(method.config, 0)` names the folder of each.
    """

    method: Method
    params: dict[str, Any]
    history: dict[str, dict]
    places: Places


def tiny_values(name: str) -> dict:
    """The plain config of a small run of a method, with everything trained for one epoch."""
    method = registry()[name]
    conversations = method.sees == "conversations" or name == "bayes_alone"
    values = TINY | {"method": name, "save_seconds": 0.0}
    values |= TINY_CONVERSATIONS if conversations else {}
    fields = configs.Config.__dataclass_fields__
    values |= {field: ONCE for field in fields if field.endswith("_training")}
    return values | {field: options for field, options in TINY_OPTIONS.items() if field in fields}


@pytest.fixture(scope="session")
def tiny_method(tmp_path_factory) -> Callable[[str], Method]:
    """(name) -> a small untrained method; those that see the same data share its `Dataset`."""
    root, datasets, methods = tmp_path_factory.mktemp("tiny_data"), {}, {}

    def of(name: str) -> Method:
        if name not in methods:
            config = configs.from_dict(tiny_values(name))
            if config.data not in datasets:
                datasets[config.data] = pipeline.dataset(config.data, config.task, root)
            methods[name] = registry()[name](config, datasets[config.data], Reporter())
        return methods[name]

    return of


@pytest.fixture(scope="session")
def tiny_trained(tiny_method, tmp_path_factory) -> Callable[[str], TinyTrained]:
    """(method's name) -> a small trained method; each is trained once a session.

    Phases that methods have in common are trained once. Treat everything as read-only.
    """
    root, trained = tmp_path_factory.mktemp("tiny_trained"), {}

    def of(name: str) -> TinyTrained:
        if name not in trained:
            method = tiny_method(name)
            places = Places(root / method.config.data.name, method.dataset.content)
            jax.config.update("jax_disable_most_optimizations", True)  # nearly all is compiling
            try:
                result = train(method, 0, places.phase(method.config, 0))
            finally:
                jax.config.update("jax_disable_most_optimizations", False)
            trained[name] = TinyTrained(method, result.params, result.history, places)
        return trained[name]

    return of


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
