"""SLURM, TPU pods and Kubernetes: what would be done there, without any of them."""

import os
import re
import shlex
import subprocess

import pytest
import yaml

from tests.end_to_end.launchers import AWKWARD, ROOT, RUN, call, python

# --- SLURM


def slurm(*arguments, path="", **settings):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    kept["PATH"] = f"{path}:{kept['PATH']}" if path else kept["PATH"]
    return call(["bash", "launch/slurm.sbatch", *arguments], kept | settings)


def test_slurm_runs_one_task_without_meeting_others():
    words = shlex.split(slurm("--dry-run", "configs/a.py", AWKWARD, "--config.title=a b").stdout)
    assert words[0] == "srun" and "--ntasks=1" in words
    assert "--distributed" not in words and "--stopped_status=75" in words
    assert words[-3:] == ["--config=configs/a.py", f"--workdir={AWKWARD}", "--config.title=a b"]


def test_slurm_gives_a_task_that_is_alone_on_its_node_all_its_gpus():
    job = {"SLURM_NTASKS": "4", "SLURM_GPUS_ON_NODE": "2", "SLURM_CPUS_PER_TASK": "3"}
    alone = slurm("--dry-run", "a.py", "w", **job, SLURM_JOB_NUM_NODES="4").stdout
    words = shlex.split(alone)
    assert {"--ntasks=4", "--cpus-per-task=3", "--distributed"} <= set(words)
    assert "JAX_LOCAL_DEVICE_IDS=0,1" in words
    shared = slurm("--dry-run", "a.py", "w", **job, SLURM_JOB_NUM_NODES="2").stdout
    assert "JAX_LOCAL_DEVICE_IDS" not in shared and "--distributed" in shared


@pytest.mark.parametrize("status, requeued", [(0, ""), (1, ""), (75, "requeue 17\n")])
def test_slurm_requeues_a_job_that_was_stopped(tmp_path, status, requeued):
    commands = {"srun": f"exit {status}", "scontrol": f'echo "$@" > {tmp_path}/requeued'}
    for name, body in commands.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    done = slurm("a.py", "w", path=str(tmp_path), SLURM_JOB_ID="17")
    assert done.returncode == status, done.stderr
    told = tmp_path / "requeued"
    assert (told.read_text() if told.exists() else "") == requeued


def test_slurm_signals_the_tasks_and_not_the_script():
    text = (ROOT / "launch" / "slurm.sbatch").read_text()
    directives = re.findall(r"^#SBATCH (\S+)$", text, re.M)
    assert {"--signal=TERM@120", "--requeue", "--open-mode=append"} <= set(directives)


# --- TPU pod


def tpu_pod(*arguments):
    return call(["bash", "launch/tpu_pod.sh", *arguments])


def test_tpu_pod_quotes_for_both_shells(tmp_path):
    flags = ["--config.title=$(HOME) 'x'", "--force"]
    given = ("--dry-run", "pod", "zone-a", "configs/a.py", AWKWARD, *flags)
    commands = [shlex.split(line) for line in tpu_pod(*given).stdout.splitlines()]
    assert commands[0][0] == "tar" and f"-C {ROOT} ." in " ".join(commands[0])
    assert commands[1][3:5] == ["tpu-vm", "scp"] and commands[1][6] == "pod:mmdjax.tar.gz"
    assert all({"--zone=zone-a", "--worker=all"} <= set(command) for command in commands[1:])
    # What a worker's shell makes of the last command: python is one that prints its arguments.
    remote = next(w for w in commands[3] if w.startswith("--command=")).partition("=")[2]
    worker = tmp_path / "mmdjax" / ".venv" / "bin" / "python"
    worker.parent.mkdir(parents=True)
    worker.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    worker.chmod(0o755)
    printed = subprocess.run(["bash", "-c", remote], cwd=tmp_path, capture_output=True, text=True)
    run = ["--config=configs/a.py", f"--workdir={AWKWARD}"]
    assert printed.stdout.splitlines() == ["-m", "mmdjax.main", "--distributed", *run, *flags]


# --- Kubernetes


def kubernetes(*arguments, run=RUN):
    own = ["--name=sweep-1", "--image=eu.example/mmdjax:1.0", "--claim=runs", "--dry-run"]
    return call(python("kubernetes.py", *own, *arguments, "--", *run))


def test_kubernetes_fills_in_every_host():
    done = kubernetes("--hosts=4", "--gpus=8", "--max_restarts=5", "--node=cloud/zone=a")
    manifest = yaml.safe_load(done.stdout)
    assert (manifest["apiVersion"], manifest["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert manifest["metadata"]["name"] == "sweep-1"
    job = manifest["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert job["completions"] == job["parallelism"] == 4 and job["completionMode"] == "Indexed"
    pod = job["template"]["spec"]
    assert pod["nodeSelector"] == {"cloud/zone": "a"}
    assert pod["terminationGracePeriodSeconds"] == 120 and pod["restartPolicy"] == "Never"
    container = pod["containers"][0]
    assert container["args"] == [
        "--coordinator=sweep-1-host-0-0.sweep-1:8476",
        "--processes=4",
        "--process=$(JOB_COMPLETION_INDEX)",
        "--stopped_status=75",
        RUN[0],
        RUN[1].replace("$", "$$"),  # which Kubernetes reads as one $
    ]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": 8}
    claims = {v["name"]: v.get("persistentVolumeClaim") for v in pod["volumes"]}
    assert claims["runs"] == {"claimName": "runs"}
    assert {"name": "runs", "mountPath": "/runs"} in container["volumeMounts"]
    assert "null" not in done.stdout


def test_kubernetes_restarts_what_was_stopped_and_does_not_call_it_finished():
    manifest = yaml.safe_load(kubernetes("--hosts=2", "--tpus=4").stdout)
    policy = manifest["spec"]["failurePolicy"]
    assert policy["maxRestarts"] == 3
    assert policy["rules"][0]["action"] == "RestartJobSetAndIgnoreMaxRestarts"
    assert policy["rules"][0]["onJobFailureReasons"] == ["PodFailurePolicy"]
    job = manifest["spec"]["replicatedJobs"][0]["template"]["spec"]
    exits, conditions = job["podFailurePolicy"]["rules"]
    container = job["template"]["spec"]["containers"][0]
    assert exits["action"] == conditions["action"] == "FailJob" and job["backoffLimit"] == 0
    assert exits["onExitCodes"]["values"] == [75] and "--stopped_status=75" in container["args"]
    assert exits["onExitCodes"]["containerName"] == container["name"]
    assert conditions["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert container["resources"]["limits"] == {"google.com/tpu": 4}


def test_kubernetes_lets_a_host_alone_meet_nobody():
    manifest = yaml.safe_load(kubernetes("--hosts=1").stdout)
    pod = manifest["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    args = pod["containers"][0]["args"]
    assert not [a for a in args if a.startswith(("--coordinator", "--process"))]
    assert pod["containers"][0]["resources"] == {}
