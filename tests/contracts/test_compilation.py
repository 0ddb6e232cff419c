"""Programs are made ahead of time for exactly the shapes that a run uses, and are counted."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmdjax import config as configs
from mmdjax.compilation import AheadOfTime, Counter
from mmdjax.data.missing import patterns
from mmdjax.methods.draw import make_drawer, prepare
from mmdjax.methods.system import build
from mmdjax.methods.work_list import draw_missing
from tests.conftest import TINY


def test_a_prepared_program_is_used_and_other_shapes_compile_on_the_spot():
    function = AheadOfTime(lambda x, y: (x * y).sum())
    shape = jax.ShapeDtypeStruct((3,), jnp.float32)
    function.prepare(shape, shape)
    function.prepare(shape, shape)
    assert function.programs() == 1
    assert function(np.ones(3, np.float32), np.full(3, 2, np.float32)) == 6
    assert function.programs() == 1 and function.jitted._cache_size() == 0
    assert function(np.ones(4, np.float32), np.ones(4, np.float32)) == 4
    assert function.programs() == 2


def test_what_was_cancelled_compiles_when_it_is_called():
    function = AheadOfTime(lambda x: x + 1)
    function.cancel()
    assert function(np.zeros(2, np.float32)).sum() == 2


def test_the_counter_sees_a_new_program_and_no_repeated_call():
    counter = Counter()
    function = jax.jit(lambda x: x * 3.25 + 1.5)
    x = jnp.ones(5)
    before = counter.programs
    function(x)
    assert counter.programs == before + 1
    function(x + 0)
    after = counter.programs
    function(x)
    assert counter.programs == after
    assert "programs compiled" in str(counter)


@pytest.mark.parametrize(
    ("coupling", "together"), [("chain", False), ("independent", False), ("independent", True)]
)
def test_a_run_draws_with_prepared_programs_only(coupling, together, rng):
    values = TINY | {"evaluation": {"draws": 2, "batch": 4}, "diffusion": {"nfe": 2}}
    config = configs.from_dict(values | {"data": TINY["data"] | {"length_buckets": (2, 4)}})
    config = dataclasses.replace(
        config, diffusion=dataclasses.replace(config.diffusion, coupling=coupling)
    )
    modules = build(config, ("a", "b", "c"))
    drawer = make_drawer(modules, config.diffusion, together)
    prepare(drawer, modules, config)
    prepared = drawer.draw.programs()
    observed = patterns(3)
    z = rng.standard_normal((7, 3, 4, 8)).astype(np.float32)
    valid = np.tile(np.arange(4) < np.array([4, 2, 4, 1, 2, 4, 4])[:, None, None], (1, 3, 1))
    arguments = (z[:1, 0], np.ones(1), z[:1, 1:], np.array([1, 2]), valid[:1, 0], valid[:1, 1:])
    init = jax.jit(lambda key: modules.score.init(key, *arguments))
    params = jax.vmap(init)(jax.random.split(jax.random.key(0), 3))
    for draws in (2, 1):  # evaluation, and stage 2
        index = np.tile(np.arange(draws), (7, 1))
        rows = (z, valid, observed, np.arange(7), index)
        draw_missing(drawer, params, *rows, jax.random.key(1), (2, 4), 4)
    assert drawer.draw.programs() == prepared and drawer.draw.jitted._cache_size() == 0


WATCH_IMPORTS = """
import builtins, sys
from mmdjax import config, experiment
from tests.conftest import TINY

class Watched(type(builtins)):
    def __setattr__(self, name, value):
        assert not (name == "__import__" and tracing), "Python's import is replaced"
        super().__setattr__(name, value)

class Loaded(Exception): pass

def stop(*_):
    raise Loaded

tracing, builtins.__class__ = [], Watched
experiment.prepare = lambda *_: tracing.append(True)
experiment.check_workdir = stop
try:
    experiment.run(config.from_dict(TINY), None)
except Loaded:
    assert tracing and "tensorflow_datasets" in sys.modules
    print("loaded")
"""


def test_nothing_replaces_pythons_import_while_programs_are_traced(tmp_path):
    """tensorflow-datasets does while it is imported: imports inside JAX then fail in a thread."""
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(root), "JAX_PLATFORMS": "cpu"}
    environment["MMDJAX_CACHE"] = str(tmp_path)
    command = [sys.executable, "-c", WATCH_IMPORTS]
    done = subprocess.run(
        command, env=environment, cwd=root, capture_output=True, text=True, timeout=300
    )
    assert done.stdout.endswith("loaded\n"), done.stderr
