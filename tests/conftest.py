"""NaN raises in every test; and the small pieces that many tests share."""

import getpass
import os
import tempfile

# A cache of the tests' own, kept between runs: they neither use nor fill the user's.
os.environ["MMDJAX_CACHE"] = os.environ.get(
    "MMDJAX_TEST_CACHE", f"{tempfile.gettempdir()}/mmdjax-tests-{getpass.getuser()}"
)

import jax
import numpy as np
import pytest

from mmdjax import config as configs
from mmdjax.data import pipeline
from mmdjax.diffusion import time_grids
from mmdjax.methods.two_stage import TwoStage
from mmdjax.runtime.progress import Reporter

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
def tiny_system(tiny_config, tmp_path_factory) -> TwoStage:
    """A small untrained system on a small synthetic set."""
    raw = pipeline.load(tiny_config.data, tmp_path_factory.mktemp("cache"))
    return TwoStage(tiny_config, pipeline.standardise(raw), Reporter())


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
