"""The launchers: what they would run, how they quote, and processes that fail or are stopped."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.end_to_end.launchers import ROOT, RUN, call, python
from tests.limits import HANGS

# Stands in for mmdjax.main: does what --config (a file's content, if it is one) tells it.
FAKE = """
import os, pathlib, signal, sys, time
flags = dict(a[2:].split("=", 1) for a in sys.argv[1:])
orders = flags["--config"[2:]]
workdir = pathlib.Path(flags["workdir"])
workdir.mkdir(parents=True, exist_ok=True)
if pathlib.Path(orders).is_file():
    orders = pathlib.Path(orders).read_text()
own = "process_" + flags.get("process", "0")
with open(workdir / "starts", "a") as starts:
    starts.write(own + "\\n")

def stop(*_):
    (workdir / f"saved_{own}").touch()
    print("saved", flush=True)
    sys.exit(int(flags.get("stopped_status", 0)))

signal.signal(signal.SIGTERM, signal.SIG_IGN if f"deaf_{own}" in orders else stop)
print("out of", own)
print("err of", own, file=sys.stderr)
(workdir / f"ready_{own}").touch()
sys.stdout.flush()
while f"wait_{own}" in orders and not (workdir / f"saved_{own}").exists():
    time.sleep(0.02)
while len(list(workdir.glob("ready_*"))) < int(flags.get("processes", 1)):
    time.sleep(0.02)
if f"fail_{own}" in orders:
    sys.exit("the reason\\n")
if f"die_{own}" in orders:
    os.kill(os.getpid(), signal.SIGKILL)
began = time.time()
while "meet_another" in orders and len(list(workdir.parent.glob("*/ready_*"))) < 2:
    time.sleep(0.02)
(workdir / "results.json").write_text(f"[{began}, {time.time()}]")
"""


@pytest.fixture
def environment(tmp_path):
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "fake_run.py").write_text(FAKE)
    return os.environ | {"PYTHONPATH": str(tmp_path / "modules")}


def wait_for(find):
    """What `find` returns, as soon as that is something."""
    deadline = time.monotonic() + HANGS
    while not (found := find()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


# --- local.py


def local(workdir, orders, *own):
    flags = ["--", f"--config={orders}", f"--workdir={workdir}"]
    return python("local.py", "--processes=2", "--module=fake_run", *own, *flags)


def test_local_prints_one_command_a_process():
    environment = os.environ | {"XLA_FLAGS": "--xla_a=1"}
    dry = python("local.py", "--processes=2", "--devices=3", "--dry-run", "--", *RUN)
    first, second = map(shlex.split, call(dry, environment).stdout.splitlines())
    assert first[:2] == [
        "XLA_FLAGS=--xla_a=1 --xla_force_host_platform_device_count=3",
        "JAX_PLATFORMS=cpu",
    ]
    assert first[3:5] == ["-m", "mmdjax.main"]
    assert re.fullmatch(r"--coordinator=127\.0\.0\.1:\d+", first[5])
    assert first[6:] == ["--processes=2", "--process=0", *RUN]
    assert second[5:] == [first[5], "--processes=2", "--process=1", *RUN]


def test_local_marks_every_line_with_its_process(tmp_path, environment):
    done = call(local(tmp_path / "run", "nothing"), environment)
    assert done.returncode == 0 and done.stderr == ""
    expected = [f"[{i}] {what} of process_{i}" for i in (0, 1) for what in ("err", "out")]
    assert sorted(done.stdout.splitlines()) == expected


@pytest.mark.parametrize(
    "how, status, words, line",
    [
        ("fail", 1, "status 1", "the reason"),
        ("die", 137, "status 137 (SIGKILL)", "err of process_1"),
    ],
)
def test_local_ends_all_when_one_fails(tmp_path, environment, how, status, words, line):
    orders = f"wait_process_0 deaf_process_0 {how}_process_1"
    done = call(local(tmp_path / "run", orders, "--grace=0"), environment)
    assert done.returncode == status
    assert f"[1] {line}" in done.stdout
    last = f"local.py: process 1 ended with {words}; its last line: {line}"
    assert done.stderr.splitlines() == [last]
    assert not (tmp_path / "run" / "saved_process_0").exists()  # it did not hear SIGTERM


def test_local_passes_sigterm_on_and_waits(tmp_path, environment):
    orders = "wait_process_0 wait_process_1"
    command = [*local(tmp_path / "run", orders), "--stopped_status=75"]
    launcher = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    for index in (0, 1):
        wait_for((tmp_path / "run" / f"ready_process_{index}").exists)
    launcher.send_signal(signal.SIGTERM)
    output = launcher.communicate(timeout=HANGS)[0].decode()
    assert launcher.returncode == 75, output
    assert "[0] saved" in output and "[1] saved" in output
    assert output.endswith("local.py: stopped by SIGTERM; exit statuses: 75, 75\n")


# --- sweep.py


def sweep(folder, *arguments, seeds="0,1"):
    own = ["--module=fake_run", f"--workdir={folder}", f"--seeds={seeds}"]
    return python("sweep.py", *own, *arguments)


def table(folder):
    rows = json.loads((folder / "sweep.json").read_text())
    return {(Path(row["config"]).name, row["seed"]): row for row in rows}


@pytest.fixture
def config(tmp_path):
    """Makes a config file of these orders."""

    def make(name, orders=""):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(orders)
        return path

    return make


def test_sweep_prints_one_command_a_run():
    configs = ("configs/synthetic.py", "configs/experiments/sde.py:smoke")
    dry = sweep("runs/s", "--dry-run", *configs, "--", "--config.title=a b")
    commands = [shlex.split(line) for line in call(dry).stdout.splitlines()]
    assert [(c[3], c[-2], c[-1]) for c in commands] == [
        (f"--config={config}", f"--workdir=runs/s/{name}/seed_{seed}", f"--config.seeds=({seed},)")
        for config, name in zip(configs, ("synthetic", "experiments.sde-smoke"), strict=True)
        for seed in (0, 1)
    ]
    assert all("--config.title=a b" in command for command in commands)


def test_sweep_gives_files_of_one_name_folders_of_their_own(tmp_path, config):
    one, other = config("one/a.py"), config("other/a.py")
    dry = sweep(tmp_path / "s", "--dry-run", one, other, f"{one}:smoke", seeds="0")
    lines = call(dry).stdout.splitlines()
    folders = {re.search(r"--workdir=(\S+)", line)[1] for line in lines}
    assert len(folders) == 3


def test_sweep_goes_on_after_a_failure_and_starts_nothing_finished_again(
    tmp_path, environment, config
):
    bad, good = config("bad.py", "fail_process_0"), config("good.py")
    folder = tmp_path / "sweep"
    done = call(sweep(folder, bad, good), environment)
    assert done.returncode == 1 and done.stderr == ""
    assert "2 of 4 finished; failed: " in done.stdout
    assert "failed with status 1: the reason" in done.stdout
    assert "4 of 4 ended: " in done.stdout
    rows = table(folder)
    assert {key: row["status"] for key, row in rows.items()} == {
        ("bad.py", 0): 1,
        ("bad.py", 1): 1,
        ("good.py", 0): 0,
        ("good.py", 1): 0,
    }
    assert set(rows["good.py", 0]) == {"config", "seed", "status", "seconds", "workdir", "flags"}
    dry = sweep(folder, "--dry-run", bad, good)
    assert call(dry).stdout.count("# finished: ") == 2
    assert "# finished" not in call([*dry, "--", "--config.title=other"]).stdout
    bad.write_text("")
    again = call(sweep(folder, bad, good), environment)
    assert again.returncode == 0, again.stdout
    assert "2 of 4 are finished already" in again.stdout and "4 of 4 finished" in again.stdout
    for (name, seed), row in table(folder).items():
        starts = (Path(row["workdir"]) / "starts").read_text().splitlines()
        assert len(starts) == (2 if name == "bad.py" else 1), (name, seed)
        log = (Path(row["workdir"]) / "log.txt").read_text()
        assert log.count("out of process_0") == len(starts)


def test_sweep_runs_at_most_so_many_at_once(tmp_path, environment, config):
    folder = tmp_path / "sweep"
    command = sweep(folder, "--at_most=2", config("meet.py", "meet_another"), seeds="0,1,2")
    assert call(command, environment).returncode == 0  # one alone would wait for ever
    rows = table(folder).values()
    times = [json.loads((Path(row["workdir"]) / "results.json").read_text()) for row in rows]
    at_once = [sum(a <= start < b for a, b in times) for start, _ in times]
    assert len(times) == 3 and max(at_once) <= 2


def test_a_stopped_sweep_goes_on(tmp_path, environment, config):
    folder, waits = tmp_path / "sweep", config("waits.py", "wait_process_0")
    launcher = subprocess.Popen(
        sweep(folder, waits), cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    ready = wait_for(lambda: next(folder.glob("*/seed_0/ready_process_0"), None))
    launcher.send_signal(signal.SIGTERM)  # SIGINT is ignored by what a script starts behind itself
    output = launcher.communicate(timeout=HANGS)[0]
    assert launcher.returncode == 128 + signal.SIGTERM
    assert re.search(r"1 of 2 ended: \S+, seed 0, \d+ s, stopped", output), output
    assert "the same command goes on" in output and "2 of 2 started" not in output
    assert table(folder)["waits.py", 0]["status"] == 75
    waits.write_text("")
    assert call(sweep(folder, waits), environment).returncode == 0
    assert len((ready.parent / "starts").read_text().splitlines()) == 2


# --- mistakes

WHOLE = "allowed: a whole number from 1"
K8S = ("--image=i", "--claim=c", "--hosts=2", "--dry-run")
MISTAKES = [
    (["local.py", "--processes=0"], "'0'; " + WHOLE),
    (["local.py", "--processes=2", "--devices=x"], "'x'; " + WHOLE),
    (["local.py"], "--processes"),
    (["local.py", "--processes=2", "--workdir=w"], "'--workdir=w' is unknown; allowed: "),
    (["sweep.py", "--workdir=w", "--seeds=0"], "no config was given"),
    (["sweep.py", "--workdir=w", "--seeds=0,x", "configs/synthetic.py"], "--seeds=0,x; allowed"),
    (["sweep.py", "--workdir=w", "--seeds=", "configs/synthetic.py"], "--seeds=; allowed"),
    (
        ["sweep.py", "--workdir=w", "--seeds=0", "configs/none.py"],
        "'configs/none.py' is not a file",
    ),
    (["sweep.py", "--workdir=w", "--seeds=0", "--at_most=0", "a.py"], "'0'; " + WHOLE),
    (["sweep.py", "--workdir=w", "--seeds=0,0", "configs/synthetic.py"], "each run once"),
    (["slurm.sbatch", "configs/a.py"], "allowed: [--dry-run] CONFIG WORKDIR [FLAGS...]"),
    (["slurm.sbatch", "--config=a.py", "--workdir=w"], "allowed: [--dry-run] CONFIG WORKDIR"),
    (["tpu_pod.sh", "pod", "zone", "a.py"], "allowed: [--dry-run] NAME ZONE CONFIG WORKDIR"),
    (["tpu_pod.sh", "pod", "zone", "a.py", "--force"], "'--force' is not one of NAME ZONE"),
    (["tpu_pod.sh", "pod", "zone", "a.py", "runs/a"], "'runs/a'; allowed: an absolute path"),
    (["kubernetes.py", "--name=A_b", *K8S, "--", *RUN], "'A_b'; allowed: lower-case letters"),
    (["kubernetes.py", f"--name={'a' * 60}", *K8S, "--", *RUN], "60 characters; allowed: 48"),
    (["kubernetes.py", "--name=a", *K8S, "--gpus=0", "--", *RUN], "'0'; " + WHOLE),
    (["kubernetes.py", "--name=a", *K8S, "--gpus=1", "--tpus=1", "--", *RUN], "not allowed with"),
    (["kubernetes.py", "--name=a", *K8S], "flags are missing; allowed: "),
    (
        ["kubernetes.py", "--name=a", *K8S, "--", "--config=a.py", "--workdir=/runs/../x"],
        "is not on the shared volume; allowed: ",
    ),
]


@pytest.mark.parametrize("arguments, message", MISTAKES, ids=lambda value: str(value)[:40])
def test_a_mistake_is_one_line_and_status_2(arguments, message):
    program = [sys.executable] if arguments[0].endswith(".py") else ["bash"]
    done = call([*program, f"launch/{arguments[0]}", *arguments[1:]])
    assert done.returncode == 2 and done.stdout == ""
    assert message in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert not (ROOT / "w").exists()
