"""Programs are made ahead of time for exactly the shapes that a run uses, and are counted."""

import dataclasses
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import serialize_executable

from mmdjax import config as configs
from mmdjax.data.dataset import Dataset
from mmdjax.data.missing.patterns import patterns
from mmdjax.methods import validation
from mmdjax.methods.latent.draw import make_drawer, prepare
from mmdjax.methods.latent.modules import build
from mmdjax.methods.latent.work_list import draw_missing
from mmdjax.methods.method import of_name
from mmdjax.methods.two_stage import TwoStage
from mmdjax.runtime.compilation import AheadOfTime, Counter, cancel_waiting
from mmdjax.runtime.progress import Reporter
from mmdjax.tasks import Classification
from mmdjax.training.train import Known, train, trainer_of
from mmdjax.training.train import prepare as prepare_phase
from mmdjax.workdir import Places
from tests.conftest import TINY

SHORT = configs.Training(epochs=1, batch=16, learning_rate=1.23e-3)  # no other module's


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
    cancel_waiting()
    assert function(np.zeros(2, np.float32)).sum() == 2


def test_cancelled_programs_can_be_prepared_again():
    function, shape = AheadOfTime(lambda x: x * 5), jax.ShapeDtypeStruct((2,), jnp.float32)
    blocker = AheadOfTime(lambda x: jax.lax.fori_loop(0, 3, lambda i, y: jnp.tanh(y @ y), x))
    blocker.prepare(jax.ShapeDtypeStruct((8, 8), jnp.float32))  # keeps the only worker busy
    function.prepare(shape)
    cancel_waiting()
    function.prepare(shape)
    assert function(np.ones(2, np.float32)).sum() == 10
    assert function.jitted._cache_size() == 0


def test_whoever_needs_a_program_that_still_waits_compiles_it():
    begun, go_on = threading.Event(), threading.Event()

    def traced(x):
        begun.set()
        assert go_on.wait(60)
        return x + 1

    blocker, function = AheadOfTime(traced), AheadOfTime(lambda x: x * 6)
    shape = jax.ShapeDtypeStruct((2,), jnp.float32)
    blocker.prepare(shape)
    try:
        assert begun.wait(60)  # the only worker is busy
        function.prepare(shape)
        assert function(np.ones(2, np.float32)).sum() == 12
    finally:
        go_on.set()
    assert blocker(np.ones(2, np.float32)).sum() == 4
    assert function(np.ones(2, np.float32)).sum() == 12
    assert function.programs() == 1 and function.jitted._cache_size() == 0


def test_static_arguments_are_part_of_a_program_and_tracers_do_not_meet_compiled_ones():
    function = AheadOfTime(lambda x, power: x**power, static_argnames="power")
    x, shape = np.full(2, 3, np.float32), jax.ShapeDtypeStruct((2,), jnp.float32)
    function.prepare(shape, power=2)
    function.prepare(shape, power=3)
    assert function.programs() == 2
    assert function(x, power=2).sum() == 18 and function(x, power=3).sum() == 54
    assert function.programs() == 2
    assert jax.grad(lambda x: function(x, power=2).sum())(x).sum() == 12


@pytest.mark.parametrize(("name", "prepared"), [("two_stage", "score"), ("imder", "imder")])
def test_training_takes_the_steps_that_were_prepared(name, prepared, tiny_system, tmp_path):
    """Of the score networks, and of the one stage: no program is made twice."""
    config = dataclasses.replace(
        tiny_system.config, score_training=SHORT, imder_training=SHORT, classifier_training=SHORT
    )
    method = of_name(name)(config, tiny_system.dataset, Reporter())
    until = [phase.name for phase in method.phases].index(prepared) + 1
    for phase in method.phases[:until]:
        prepare_phase(phase, config)
    method.phases = method.phases[:until]  # the rest is not what is asked about
    trained = train(method, 0, Places(tmp_path, "tiny").phase(config, 0))
    assert list(trained.params)[-1] == prepared
    step = trainer_of(method.phases[-1], config).step
    assert step.programs() == 1 and step.jitted._cache_size() == 0
    if name == "two_stage":
        valid = validation.compiled(method.phases[-1].loss)
        assert valid.programs() > 0 and valid.jitted._cache_size() == 0


def test_equal_systems_share_their_programs(tiny_system):
    config, dataset = tiny_system.config, tiny_system.dataset
    other = TwoStage(config, dataset, Reporter())
    assert other._predict is tiny_system._predict and other._align is tiny_system._align

    def trainers(config):
        method = of_name("two_stage")(config, dataset, Reporter())
        return {phase.name: trainer_of(phase, config) for phase in method.phases}

    first, second = trainers(config), trainers(config)
    assert all(first[name] is second[name] for name in first)
    ema = dataclasses.replace(config.score_training, ema=0.5)
    third = trainers(dataclasses.replace(config, score_training=ema))
    assert third["score"] is not first["score"]
    assert third["classifier"] is first["classifier"]


def test_another_task_has_programs_of_its_own(tiny_system):
    """Its head has another width, so nothing of it may be shared by mistake."""
    dataset = tiny_system.dataset
    other = Dataset(dataset.splits, Classification(("a", "b")), dataset.content)
    space = TwoStage(tiny_system.config, other, Reporter())
    assert space._predict is not tiny_system._predict
    assert space.drawer is tiny_system.drawer  # draws do not know the label


def test_draws_are_optimised_where_nothing_else_is():
    """Code of the highest level unrolls and vectorises: it is longer."""
    x = jax.ShapeDtypeStruct((64, 64), jnp.float32)
    scale = 1 + time.time() % 1  # of float32, and in no cache, which keeps less of a program

    def length(make):
        program = make(lambda x: jnp.sin(x @ x * scale).sum()).jitted.lower(x).compile()
        return len(serialize_executable.serialize(program)[0])

    usual = length(AheadOfTime)
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        assert length(AheadOfTime) < 0.9 * usual
        assert length(AheadOfTime.run_often) == pytest.approx(usual, rel=0.05)
    finally:
        jax.config.update("jax_disable_most_optimizations", False)


def test_a_phase_that_is_known_is_not_restored(tiny_system, tmp_path, monkeypatch):
    """Systems that share a phase have the very same arrays."""
    config = dataclasses.replace(tiny_system.config, classifier_training=SHORT)
    place, known = Places(tmp_path, "tiny").phase(config, 0), Known()
    zero, mean = (of_name(n)(config, tiny_system.dataset, Reporter()) for n in ("zero", "mean"))
    first = train(zero, 0, place, known=known)
    monkeypatch.setattr("mmdjax.training.train.fit", lambda *_: pytest.fail("restored again"))
    second = train(mean, 0, place, known=known)
    assert second.params["classifier"] is first.params["classifier"]
    assert second.history == first.history


def test_fitted_phases_are_forgotten_oldest_first():
    known, made = Known(most=2), []

    def get(name):
        return known.get(name, lambda: made.append(name) or name)

    assert [get(n) for n in ("a", "b", "a", "c", "a", "b")] == ["a", "b", "a", "c", "a", "b"]
    assert made == ["a", "b", "c", "b"]


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
from mmdjax import config, run
from mmdjax.methods.two_stage import TwoStage
from tests.conftest import TINY

class Watched(type(builtins)):
    def __setattr__(self, name, value):
        assert not (name == "__import__" and tracing), "Python's import is replaced"
        super().__setattr__(name, value)

class Loaded(Exception): pass

def stop(*_):
    raise Loaded

tracing, builtins.__class__ = [], Watched
TwoStage.warm = classmethod(lambda *_: tracing.append(True))
run.workdir.opened = stop
try:
    run.run(config.from_dict(TINY), None)
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
