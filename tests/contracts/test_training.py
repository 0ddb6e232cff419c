"""Batches, averaging and checkpoints of the one training loop."""

import dataclasses
import io
import itertools
import json
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rich.console import Console

from mmdjax import config as configs
from mmdjax.errors import UserError
from mmdjax.methods.latent.losses import weighted_mean
from mmdjax.runtime import stopping
from mmdjax.runtime.progress import Reporter
from mmdjax.training.checkpoints import PhaseStore
from mmdjax.training.flat import Layout
from mmdjax.training.loop import Schedule, fit
from mmdjax.training.step import Source, make_trainer, plan_epoch, where_of

SETTINGS = configs.Training(epochs=6, patience=6, batch=4, warmup=1, learning_rate=0.1, ema=0.5)
BUCKET = np.array([0] * 7 + [1] * 3)


def quadratic(params, data, weight, key, frames):
    """Pulls params towards the mean of the data; noise makes the result depend on the keys."""
    target = data["y"] + 0.1 * jax.random.normal(key, weight.shape) + 0 * frames
    return (((params["w"] - target) ** 2) * weight).sum() / weight.size


def run(folder, settings=SETTINGS, loss=quadratic, validate=None, trainer=None, **more):
    trainer = trainer or make_trainer(loss, settings, 18)
    source = Source({"y": np.arange(10, dtype=np.float32)})
    validate = validate or (lambda p: abs(float(p["w"]) - 4.5))
    schedule = Schedule("test", BUCKET, (4, 8), jax.random.key(1), (0, 1))
    arguments = ({"w": jnp.float32(0)}, lambda: (source, validate), settings)
    return fit(schedule, trainer, *arguments, PhaseStore(folder), Reporter(), **more)


def test_an_epoch_holds_every_sample_once_in_batches_of_one_bucket(rng):
    plan = plan_epoch(BUCKET, (4, 8), 4, rng)
    real = np.concatenate([p.rows[p.weight == 1] for p in plan])
    assert sorted(real) == list(range(10)) and all(len(p.rows) == 4 for p in plan)
    for batch in plan:
        assert set(BUCKET[batch.rows]) == {(4, 8).index(batch.frames)}


def test_a_row_of_a_short_batch_weighs_as_much_as_any_other(rng):
    def gradient(batch):
        def loss(w):  # the gradient is each row's weight in the loss
            return weighted_mean(w[batch.rows], batch.weight)

        return jax.grad(loss)(jnp.zeros(10))

    total = sum(gradient(b) for b in plan_epoch(BUCKET, (4, 8), 4, rng))
    np.testing.assert_allclose(total, 0.25)


def test_an_interrupted_fit_ends_as_an_uninterrupted_one(tmp_path):
    whole = run(tmp_path / "whole")
    calls = 0

    def stops(params):
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return abs(float(params["w"]) - 4.5)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", validate=stops)
    again = run(tmp_path / "cut")
    np.testing.assert_array_equal(again.params["w"], whole.params["w"])
    for field in ("epoch", "train", "valid", "best"):
        assert again.history[field] == whole.history[field]


def test_a_checkpoint_holds_the_values_of_its_own_epoch(tmp_path, monkeypatch):
    """Saving is asynchronous: what changes after the call must not get into the file."""
    gate, dumps = threading.Event(), json.dumps
    monkeypatch.setattr(json, "dumps", lambda *a, **k: (gate.wait(5), dumps(*a, **k))[1])
    values = {"epoch": 1, "history": [1]}
    with PhaseStore(tmp_path) as store:
        store.save(1, {"w": jnp.ones(2)}, values)
        values["epoch"] = 2
        values["history"].append(2)
        gate.set()
    monkeypatch.undo()
    with PhaseStore(tmp_path) as store:
        assert store.restore({"w": jnp.zeros(2)})[1] == {"epoch": 1, "history": [1]}


@pytest.mark.parametrize(("number", "place"), [(6, [1, 1]), (8, [1, 3])])
def test_a_stopped_fit_saves_and_ends_as_an_uninterrupted_one(tmp_path, monkeypatch, number, place):
    """In the middle of the second epoch, and between its last step and its validation: an epoch
    checks for signals before each of three steps, and before validation."""
    whole = run(tmp_path / "whole")
    checks = itertools.count(1)

    def check():
        if next(checks) == number:
            raise stopping.Stopped("SIGTERM")

    monkeypatch.setattr(stopping, "check", check)
    with pytest.raises(stopping.Stopped):
        run(tmp_path / "cut")
    monkeypatch.undo()
    newest = max((tmp_path / "cut").glob("[0-9]*"), key=lambda path: int(path.name))
    kept = json.loads((newest / "values" / "metadata").read_text())
    assert [kept["epoch"], kept["step"]] == place
    again = run(tmp_path / "cut")
    np.testing.assert_array_equal(again.params["w"], whole.params["w"])
    for field in ("epoch", "train", "valid", "best"):
        assert again.history[field] == whole.history[field]


def damage(folder, change) -> None:
    """`change` on the content of every file of numbers."""
    files = [p for p in folder.rglob("*") if p.is_file() and p.stat().st_size > 64]
    for path in files:
        path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content[: len(content) // 2],
        lambda content: bytes(len(content)),
        lambda content: content[:-20] + bytes(b ^ 1 for b in content[-20:]),
    ],
    ids=["cut", "zeroed", "flipped"],
)
def test_a_damaged_newest_checkpoint_is_set_aside_and_the_one_before_used(tmp_path, change):
    numbers = {"w": np.arange(64, dtype=np.float32)}
    with PhaseStore(tmp_path / "phase") as store:
        for step in (1, 2):
            store.save(step, {"w": jnp.asarray(numbers["w"] + step)}, {"epoch": step})
    for name in ("phase-damaged-2", "phase-damaged-2-2"):  # and once more
        damage(tmp_path / "phase" / "2", change)
        told = []
        with PhaseStore(tmp_path / "phase") as store:
            arrays, values = store.restore(numbers, told.append)
            np.testing.assert_array_equal(arrays["w"], numbers["w"] + 1)
            assert values == {"epoch": 1}
            store.save(2, arrays, {"epoch": 2})  # its place is free again
        assert "checkpoint 2 in" in told[0] and told[0].endswith(name)
        assert (tmp_path / name).is_dir() and (tmp_path / "phase" / "2").is_dir()


def test_numbers_that_changed_in_a_readable_file_are_damage(tmp_path, monkeypatch):
    with PhaseStore(tmp_path / "phase") as store:
        store.save(1, {"w": jnp.arange(4.0)}, {})
    with PhaseStore(tmp_path / "phase") as store:
        read = store._restored

        def swapped(*about):
            arrays, values = read(*about)
            return {"w": arrays["w"][[1, 0, 2, 3]]}, values

        monkeypatch.setattr(store, "_restored", swapped)
        told = []
        assert store.restore({"w": jnp.zeros(4)}, told.append) is None
    assert "its numbers are not those that were saved" in told[0]


def test_a_checkpoint_of_other_networks_is_refused_and_stays(tmp_path):
    with PhaseStore(tmp_path) as store:
        store.save(1, {"w": jnp.zeros(4)}, {})
    with PhaseStore(tmp_path) as store, pytest.raises(UserError, match="of other networks"):
        store.restore({"w": jnp.zeros(5)})
    assert (tmp_path / "1").is_dir()


def test_the_last_checkpoints_are_kept(tmp_path):
    with PhaseStore(tmp_path, keep=3) as store:
        for step in range(6):
            store.save(step, {"w": jnp.zeros(4)}, {})
    assert {int(p.name) for p in tmp_path.glob("[0-9]*")} == {3, 4, 5}


@pytest.mark.parametrize(
    ("mesh", "words"),
    [
        (configs.Mesh(data=2), "data 2, fsdp 1 with 1 devices; allowed: data times fsdp devices"),
        (configs.Mesh(fsdp=2), "data 0, fsdp 2 with 1 devices; allowed: data times fsdp devices"),
    ],
)
def test_a_mesh_of_more_devices_than_there_are_is_refused(mesh, words):
    with pytest.raises(UserError, match=words):
        make_trainer(quadratic, SETTINGS, 18, mesh)


def test_early_stopping_keeps_the_best_parameters(tmp_path):
    values = iter([3.0, 1.0, 2.0, 2.0, 2.0, 2.0])
    seen = []

    def validate(params):
        seen.append(float(params["w"]))
        return next(values)

    fitted = run(tmp_path, dataclasses.replace(SETTINGS, patience=2), validate=validate)
    assert len(seen) == 4 and fitted.history["best"] == 2
    assert float(fitted.params["w"]) == seen[1]


def test_an_unfinished_phase_may_not_be_evaluated_and_nan_stops_training(tmp_path):
    with pytest.raises(UserError, match="test is not trained to the end"):
        run(tmp_path / "a", may_train=False)
    with pytest.raises(UserError, match=r"the validation loss was nan after step 3, in epoch 1"):
        run(tmp_path / "b", validate=lambda p: float("nan"))


def test_other_rates_and_lengths_share_a_step_which_is_that_of_optax():
    """The reference: AdamW with a schedule of constants, on a pytree."""
    settings = dataclasses.replace(SETTINGS, weight_decay=0.1, clip=0.5, warmup=3)
    trainer, other = (make_trainer(quadratic, s, n) for s, n in ((settings, 18), (SETTINGS, 7)))
    assert trainer.step is other.step
    data, weight = {"y": np.arange(4.0, dtype=np.float32)}, np.ones(4, np.float32)
    schedule = optax.warmup_cosine_decay_schedule(0.0, 0.1, 3, 18)
    optimiser = optax.chain(optax.clip_by_global_norm(0.5), optax.adamw(schedule, weight_decay=0.1))
    params = {"w": jnp.float32(9)}
    state, reference = trainer.init(params), optimiser.init(params)
    for index in range(18):
        where = where_of(jax.random.key(0), 0, index)
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 0), index)
        gradient = jax.grad(quadratic)(params, data, weight, key, 4)
        updates, reference = optimiser.update(gradient, reference, params)
        params = optax.apply_updates(params, updates)
        state = trainer.step(state, data, {}, weight, where, frames=4)
        np.testing.assert_allclose(state.params, [params["w"]], rtol=1e-5)


def test_parameters_go_into_a_vector_and_back():
    tree = {"b": np.ones((2, 3), np.float32), "a": [np.zeros((), np.float32)]}
    layout = Layout.of(tree)
    assert layout.size == 7 and str(layout) == "['a'][0] []; ['b'] [2, 3]"
    vector = layout.flat(tree, 8)
    np.testing.assert_array_equal(vector, [0, *[1] * 6, 0])
    for back in (layout.unflat(vector), jax.jit(layout.unflat)(vector)):
        jax.tree.map(np.testing.assert_array_equal, back, tree)
    with pytest.raises(TypeError, match=r"parameter \['n'\] is int32; allowed: float32"):
        Layout.of({"n": np.zeros(1, np.int32)})


def test_a_checkpoint_of_as_many_numbers_of_other_networks_is_refused(tmp_path):
    run(tmp_path)
    trainer = make_trainer(lambda p, *more: quadratic({"w": p["v"]}, *more), SETTINGS, 18)
    with pytest.raises(UserError, match="of other networks"):
        phase = Schedule("test", BUCKET, (4, 8), jax.random.key(1), (0, 1))
        given = ({"v": jnp.float32(0)}, None, SETTINGS, PhaseStore(tmp_path), Reporter())
        fit(phase, trainer, *given)


def test_the_average_forgets_where_it_started():
    settings = dataclasses.replace(SETTINGS, ema=0.999, learning_rate=1e-9)
    trainer = make_trainer(quadratic, settings, 18)
    state = trainer.init({"w": jnp.float32(5)})
    state = dataclasses.replace(state, average=jnp.full(1, -100.0))
    given = ({"y": np.arange(4.0, dtype=np.float32)}, {}, np.ones(4, np.float32))
    for index in range(40):
        state = trainer.step(state, *given, where_of(jax.random.key(0), 0, index), frames=4)
    assert abs(float(state.average[0]) - 5) < 0.05


def test_a_phase_inside_a_phase_shows_on_a_terminal():
    """Validation that draws has a bar of its own."""
    reporter = Reporter()
    reporter.console = Console(force_terminal=True, file=io.StringIO(), width=200)
    with reporter.phase("training", 2) as outer:
        outer.advance()
        with reporter.phase("validation", 1) as inner:
            inner.advance()
        outer.advance()
    shown = reporter.console.file.getvalue()
    assert "training" in shown and "validation" in shown


def test_a_stop_whose_save_fails_does_not_say_that_it_is_saved(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="cannot be written"), PhaseStore(tmp_path) as store:

        def full():
            raise OSError("No space left on device")

        monkeypatch.setattr(store._manager, "close", full)
        raise stopping.Stopped("SIGTERM")
