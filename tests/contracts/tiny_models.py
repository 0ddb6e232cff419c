"""Small published models that tests of serving share, and their fixtures."""

import dataclasses

import jax
import numpy as np
import pytest

from mmdjax import config as configs
from mmdjax.data.dataset import Dataset
from mmdjax.data.sources import synthetic
from mmdjax.methods.method import of_name
from mmdjax.runtime.progress import Reporter
from mmdjax.serving.bundle import publish
from mmdjax.tasks import SENTIMENT

from ..conftest import TINY

NAMES = ("language", "acoustic", "vision")


def make(folder, frame_gaps: float, coupling: str = "chain", method="two_stage", task=SENTIMENT):
    """A method with random parameters, and its published model."""
    values = TINY | {"diffusion": {"nfe": 3, "frame_gaps": frame_gaps, "coupling": coupling}}
    config = configs.from_dict(values | {"method": method})
    splits = dict(synthetic.read(48, 16, 24, 0))
    if task is not SENTIMENT:  # any labels of its kind
        for name, batch in splits.items():
            label = np.arange(len(batch) * max(1, *task.label_shape, 1)) % 2
            label = label.reshape(len(batch), *task.label_shape)
            splits[name] = dataclasses.replace(batch, label=label)
    system = of_name(method)(config, Dataset(splits, task, "data"), Reporter())
    space = system
    first = space.initial_classifier(jax.random.key(0))
    # With a decoder and score networks that do something.
    decoder = jax.tree.map(lambda a: a + 0.05, space.initial_decoder(jax.random.key(2)))
    params = {
        "classifier": first,
        "score": jax.tree.map(lambda a: a + 0.02, space.initial_score(jax.random.key(1))),
        "draws": {"fusion": first["fusion"], "decoder": decoder},
        "zero": {"fusion": first["fusion"], "decoder": decoder},
    }
    params = {phase.name: params[phase.name] for phase in system.phases}
    publish(system, params, 0, folder / "model" / "seed_0", "data")
    return system, params


@pytest.fixture(autouse=True, scope="module")
def quick_compiling():
    """Half of this module's time; rounding differs, which no test here is about."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(autouse=True)
def nan_says_missing():
    with jax.debug_nans(False):
        yield
