"""One run on more devices, in more processes, killed and started again: the same numbers."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.end_to_end.runs import ROOT, SMALL_FILES, TINY, finish, kill, numbers, start, start_all
from tests.limits import HANGS

ANYWHERE = {1: {}, 2: {"processes": 2, "devices": 2}}  # processes -> how they are started
# Three losses, 50 steps each, on four devices (parameters whole, or spread) against one of them.
CURVES = """
import jax, numpy as np
from mmdjax.tasks import SENTIMENT
from mmdjax import config as configs
from mmdjax.training.settings import Mesh
from mmdjax.methods.latent import losses
from mmdjax.methods.latent.initial import initial_score
from mmdjax.methods.latent.modules import Scale, build
from mmdjax.training.step import make_trainer, where_of
from tests.conftest import TINY

assert jax.device_count() == 4
jax.config.update("jax_disable_most_optimizations", True)
modules = build(configs.from_dict(TINY), ("l", "a", "v"))
rng, normal = np.random.default_rng(0), np.random.default_rng(0).standard_normal
z, valid = normal((64, 3, 4, 8)).astype("f"), rng.random((64, 3, 4)) < 0.9
label = normal(64).astype("f")
features = {m: normal((64, 6, 5)).astype("f") for m in "lav"}
whole = {m: np.ones((64, 6), bool) for m in "lav"}
classifier = {"features": features, "valid": whole, "label": label}
sets = {"z": z, "valid": valid, "label": label, "observed": rng.random((64, 2, 3)) < 0.6}
sets |= {"fill": normal((64, 2, 3, 4, 8)).astype("f")}
sets["observed"][..., 0] |= ~sets["observed"].any(-1)
scale = {"scale": Scale(np.zeros((3, 8), "f"), np.ones((3, 8), "f"))}
key = jax.random.key(0)
one = lambda tree: {m: a[:1] for m, a in tree.items()}
encoders = modules.encoders.init(key, one(features), one(whole))
fusion = modules.fusion.init(key, z[:1], np.ones((1, 3, 4), bool))
of_key = lambda k: modules.decoder.init(k, z[:1, 0], valid[:1, 0])
decoder = jax.vmap(of_key)(jax.random.split(key, 3))
settings = configs.Training(batch=16, warmup=5, learning_rate=1e-3, ema=0.9)
cases = {
    "classifier": (losses.classifier_loss(modules.encoders, modules.fusion, SENTIMENT),
                   classifier, {}, {"encoders": encoders, "fusion": fusion}),
    "score": (losses.score_loss(modules), {"z": z, "valid": valid}, {},
              initial_score(modules.score)(key)),
    "stage 2": (losses.completion_loss(modules.decoder, modules.fusion, SENTIMENT, "draws", 0.2),
                sets, scale, {"fusion": fusion, "decoder": decoder}),
}
for name, (loss, rows, common, params) in cases.items():
    curves = {}
    for mesh in (Mesh(1), Mesh(2, 2, 256)) if name == "score" else (Mesh(1), Mesh(4)):
        trainer = make_trainer(loss, settings, 50, mesh)
        place, curve = trainer.placement, []
        state = trainer.init(jax.device_get(params))
        if mesh.fsdp > 1:  # parameters are really spread
            assert any(len(set(map(str, a.sharding.devices_indices_map(a.shape).values()))) == 2
                       for a in jax.tree.leaves(state.params))
        for index in range(50):
            own = (np.arange(16) + 16 * index) % 64
            batch = place.batch((jax.tree.map(lambda a: a[own], rows), np.ones(16, "f")))
            given = (batch[0], place.copied(common), batch[1], where_of(key, 0, index))
            before, state = float(state.total), place.settled(trainer.step(state, *given, frames=4))
            curve.append(float(state.total) - before)
        curves[mesh] = np.array(curve)
    plain, spread = curves.values()
    assert plain[-10:].mean() < plain[:10].mean()
    print(name, np.abs(spread / plain - 1).max(), sep=": ")
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "tiny.py"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    """processes -> workdir of an uninterrupted run; with one, it leaves a profile."""
    made = {}

    def of(processes: int):
        if processes not in made:
            made[processes] = tmp_path_factory.mktemp("whole") / "run"
            more = ("--profile",) if processes == 1 else ()
            for process in start_all(config, made[processes], *more, **ANYWHERE[processes]):
                finish(process)
        return made[processes]

    return of


def test_loss_curves_of_four_devices_are_those_of_one():
    flags = "--xla_force_host_platform_device_count=4"
    environment = {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), "XLA_FLAGS": flags}
    done = subprocess.run(
        [sys.executable, "-c", CURVES],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=HANGS,
    )
    assert done.returncode == 0, done.stderr
    errors = dict(line.split(": ") for line in done.stdout.splitlines())
    assert errors.keys() == {"classifier", "score", "stage 2"}
    assert all(float(error) < 1e-5 for error in errors.values()), errors
    print(errors)


def test_two_processes_get_the_numbers_of_one(whole):
    one, two = (numbers(whole(processes)) for processes in (1, 2))
    assert one == pytest.approx(two, rel=1e-4, abs=1e-5, nan_ok=True)


def test_a_stopped_run_of_four_devices_goes_on_with_one(config, whole, tmp_path):
    """SIGTERM in the middle of training: it saves, says how to go on, and ends with 0."""
    process = start(config, tmp_path, devices=4)
    wait_for(process, tmp_path, "checkpoints/score-*/seed_0/[0-9]*")
    process.send_signal(signal.SIGTERM)
    assert "stopped by SIGTERM; the same command goes on from here" in finish(process)
    assert not (tmp_path / "results.json").exists()
    finish(start(config, tmp_path))
    found = numbers(tmp_path)
    assert found == pytest.approx(numbers(whole(1)), rel=1e-4, abs=1e-5, nan_ok=True)


def wait_for(process, workdir, pattern: str) -> None:
    deadline = time.monotonic() + HANGS
    while not list(workdir.glob(pattern)):
        assert process.poll() is None and time.monotonic() < deadline, process.stdout.read()
        time.sleep(0.01)


@pytest.mark.parametrize(("processes", "moments"), [(1, 2), (2, 1)])
def test_killed_at_a_random_moment_a_run_ends_with_the_same_numbers(
    config, whole, tmp_path, processes, moments
):
    """The short form: one run, killed in its first seconds, once or twice. `pytest -m long` has the
    whole."""
    after = [random.uniform(0, 8) for _ in range(moments)]
    killed_and_restarted(config, tmp_path, processes, after, whole(processes))


@pytest.mark.long
@pytest.mark.parametrize("processes", [1, 2])
def test_killed_at_twenty_random_moments_a_run_ends_with_the_same_numbers(
    config, whole, tmp_path, processes
):
    """At random in each twentieth of a run's work: in both stages and in evaluation."""
    expected = whole(processes)
    running = start_all(config, tmp_path / "warm", **ANYWHERE[processes])
    wait_for(running[0], tmp_path / "warm", "config.json")
    started = time.monotonic()
    for process in running:
        finish(process)
    seconds = time.monotonic() - started
    for moment in range(20):
        after = seconds * (moment + random.random()) / 20
        killed_and_restarted(config, tmp_path / str(moment), processes, [after], expected)


def killed_and_restarted(config, folder, processes: int, after: list[float], expected) -> None:
    """kill -9 for all processes some seconds after they began to work, each time the same command
    again; it ends with the uninterrupted run's numbers to the last bit."""
    for seconds in after:
        running = start_all(config, folder, **ANYWHERE[processes])
        wait_for(running[0], folder, "config.json")
        time.sleep(seconds)
        kill(running)
        names = ("classifier", "score", "completions", "draws")
        left = {n: len(list(folder.glob(f"checkpoints/{n}-*/seed_0/*[0-9z]"))) for n in names}
        left |= {name: len(list(folder.glob(f"{name}*"))) for name in ("systems/*/seed", "results")}
        print(f"{processes}: killed after {seconds:.1f} s; left: {left}", flush=True)
    for process in start_all(config, folder, **ANYWHERE[processes]):
        finish(process)
    assert repr(numbers(folder)) == repr(numbers(expected)), after


def test_one_of_two_processes_killed_the_other_ends_with_a_message(config, whole, tmp_path):
    whole(2)  # compiled by now
    first, second = start_all(config, tmp_path, **ANYWHERE[2])
    wait_for(first, tmp_path, "checkpoints/*/seed_0/[0-9]*")
    second.send_signal(signal.SIGKILL)
    output = first.communicate(timeout=HANGS)[0]
    assert first.returncode != 0
    assert "another task died" in output or "another process" in output, output
    second.communicate()


class Eventful(NamedTuple):
    """A run to which everything happens, a second one beside it, SIGINT and a full disk, before it
    ends."""

    workdir: Path
    pid: int
    refused: str  # what the second one said
    stopped: str
    before: set[str]  # checkpoints
    full: str
    after: set[str]


@pytest.fixture(scope="module")
def eventful(config, tmp_path_factory) -> Eventful:
    """A limit on the size of files stands for a quota: writing fails as on a full disk."""
    workdir = tmp_path_factory.mktemp("eventful") / "run"
    process = start(config, workdir)
    wait_for(process, workdir, "config.json")
    process.send_signal(signal.SIGSTOP)  # the second may take as long as it likes
    refused = finish(start(config, workdir), status=2)
    process.send_signal(signal.SIGCONT)
    wait_for(process, workdir, "checkpoints/score-*/seed_0/[0-9]*")
    process.send_signal(signal.SIGINT)
    stopped = finish(process)
    before = checkpoints(workdir)
    full = finish(start(config, workdir, under=SMALL_FILES), status=2)
    after = checkpoints(workdir)
    finish(start(config, workdir))
    return Eventful(workdir, process.pid, refused, stopped, before, full, after)


def test_a_workdir_takes_one_run_at_a_time(eventful):
    assert f"in use by process {eventful.pid} on" in eventful.refused
    assert "Traceback" not in eventful.refused


def test_a_full_disk_loses_nothing_that_is_finished(eventful, whole):
    assert "stopped by SIGINT" in eventful.stopped
    assert "cannot be written" in eventful.full and "File too large" in eventful.full
    assert "Traceback" not in eventful.full, eventful.full
    assert eventful.before <= eventful.after
    assert repr(numbers(eventful.workdir)) == repr(numbers(whole(1)))


def checkpoints(workdir) -> set[str]:
    return {str(p) for p in workdir.glob("checkpoints/*/seed_0/[0-9]*")}


def test_another_config_goes_on_by_force_from_what_it_does_not_change(config, whole, tmp_path):
    shutil.copytree(whole(1), tmp_path / "forced")
    change = "--config.stage2_training.learning_rate=0.001"
    output = finish(start(config, tmp_path / "forced", change), status=2)
    assert "stage2_training.learning_rate: 0.002 there, 0.001 given" in output
    assert "--force" in output
    trained = checkpoints(tmp_path / "forced")
    finish(start(config, tmp_path / "forced", change, "--force"))
    new = {name.split("/")[-3].split("-")[0] for name in checkpoints(tmp_path / "forced") - trained}
    assert new == {"draws"}
    finish(start(config, tmp_path / "fresh", change))
    assert repr(numbers(tmp_path / "forced")) == repr(numbers(tmp_path / "fresh"))


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_checkpoint(config, tmp_path):
    change = ("--config.score_training.learning_rate=1e30", "--config.score_training.clip=1e30")
    output = finish(start(config, tmp_path, *change), status=2)
    assert "score networks: the training loss was not finite at step" in output, output
    assert "Traceback" not in output
    kept = list(tmp_path.glob("checkpoints/classifier-*/seed_0/[0-9]*"))
    assert len(kept) == 2


def test_a_profile_is_left_where_one_is_asked_for(whole):
    traces = {path.parents[3].name for path in whole(1).rglob("*.xplane.pb")}
    assert "seed_0_score_networks" in traces
