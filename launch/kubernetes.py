"""One run on several hosts of a Kubernetes cluster: fills in launch/jobset.yaml and applies it.

Command: python launch/kubernetes.py --name=NAME --image=IMAGE --claim=CLAIM --hosts=4
           [--gpus=8 | --tpus=4] [--dry-run] -- --config=FILE --workdir=/runs/DIR [FLAGS]
Every host runs one process, in a pod of IMAGE, where mmdjax is installed and FILE is found. CLAIM
is a volume claim that all pods can write (ReadWriteMany); they see it at /runs. A preempted run
saves, and starts again where it stopped. --dry-run prints the manifest and applies nothing.
"""

from __future__ import annotations

import argparse
import posixpath
import re
import subprocess
import sys
from pathlib import Path, PurePosixPath

import yaml
from common import Parser, exit_status, parse, whole

TEMPLATE = Path(__file__).with_name("jobset.yaml")
PORT = 8476
LONGEST = 63  # of a pod's name; JobSet refuses more


def main(argv: list[str]) -> int:
    parser = Parser(__doc__)
    label = r"[a-z]([-a-z0-9]*[a-z0-9])?"
    words = "lower-case letters, digits and '-', beginning with a letter"
    parser.add_argument("--name", type=matching(label, words), required=True, help="of the JobSet")
    image = matching(r"[a-zA-Z0-9][-\w./:@]*", "REGISTRY/NAME:TAG")
    parser.add_argument("--image", type=image, required=True, help="with mmdjax installed")
    claim = matching(r"[a-z0-9]([-.a-z0-9]*[a-z0-9])?", "lower-case letters, digits, '-' and '.'")
    parser.add_argument("--claim", type=claim, required=True, help="of a volume all pods share")
    parser.add_argument("--mount", default="/runs", help="where the pods see that volume")
    parser.add_argument("--hosts", type=whole(1), required=True, help="pods, one process in each")
    accelerators = parser.add_mutually_exclusive_group()
    accelerators.add_argument("--gpus", type=whole(1), help="nvidia.com/gpu of each host")
    accelerators.add_argument("--tpus", type=whole(1), help="google.com/tpu of each host")
    parser.add_argument("--max_restarts", type=whole(0), default=3, help="after failures")
    parser.add_argument(
        "--node",
        type=matching(r"[-\w./]+=[-\w.]*", "LABEL=VALUE"),
        action="append",
        default=[],
        help="LABEL=VALUE that nodes must have; may be repeated",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the manifest, apply nothing")
    given, flags = parse(parser, argv)
    mistake = mistake_of(given, flags)
    if mistake:
        parser.error(mistake)
    manifest = yaml.safe_dump(filled(given, flags), sort_keys=False, width=1000)
    if given.dry_run:
        print(manifest, end="")
        return 0
    try:
        done = subprocess.run(["kubectl", "apply", "-f", "-"], input=manifest, text=True)
    except FileNotFoundError:
        parser.error("kubectl is not installed; allowed: --dry-run, which prints the manifest")
    return exit_status(done.returncode)


def matching(pattern: str, allowed: str):
    """Reads a text that matches `pattern` from end to end."""

    def read(text: str) -> str:
        if not re.fullmatch(pattern, text, re.ASCII):
            raise argparse.ArgumentTypeError(f"{text!r}; allowed: {allowed}")
        return text

    return read


def mistake_of(given: argparse.Namespace, flags: list[str]) -> str:
    """What is wrong with arguments that are right one by one; '' if nothing is."""
    longest = len(f"{given.name}-host-0-{given.hosts - 1}-abcde")
    if longest > LONGEST:
        allowed = len(given.name) - (longest - LONGEST)
        return f"--name={given.name} has {len(given.name)} characters; allowed: {allowed}"
    if not given.mount.startswith("/") or given.mount != posixpath.normpath(given.mount):
        return f"--mount={given.mount}; allowed: an absolute path such as /runs"
    workdirs = [flag.partition("=")[2] for flag in flags if flag.startswith("--workdir=")]
    inside = f"allowed: -- --config=FILE --workdir={given.mount}/DIR [FLAGS]"
    if not workdirs or not any(flag.startswith("--config=") for flag in flags):
        return f"the run's flags are {' '.join(flags) or 'missing'}; {inside}"
    if not PurePosixPath(posixpath.normpath(workdirs[-1])).is_relative_to(given.mount):
        return f"--workdir={workdirs[-1]} is not on the shared volume; {inside}"
    return ""


def filled(given: argparse.Namespace, flags: list[str]) -> dict:
    """The manifest: the template with everything that is null in it.

    Values are put into the parsed template, so none of them can be read as YAML.
    """
    manifest = yaml.safe_load(TEMPLATE.read_text())
    manifest["metadata"]["name"] = given.name
    manifest["spec"]["failurePolicy"]["maxRestarts"] = given.max_restarts
    job = manifest["spec"]["replicatedJobs"][0]
    job["template"]["spec"] |= {"parallelism": given.hosts, "completions": given.hosts}
    pod = job["template"]["spec"]["template"]["spec"]
    pod["nodeSelector"] = dict(one.split("=", 1) for one in given.node)
    pod["volumes"][0]["persistentVolumeClaim"]["claimName"] = given.claim
    container = pod["containers"][0]
    container["image"] = given.image
    container["volumeMounts"][0]["mountPath"] = given.mount
    # Kubernetes reads $(NAME) in an argument as a variable's value, and $$ as one $.
    container["args"] = [
        *meeting(given.name, job["name"], given.hosts),
        "--stopped_status=75",
        *(flag.replace("$", "$$") for flag in flags),
    ]
    counts = {"nvidia.com/gpu": given.gpus, "google.com/tpu": given.tpus}
    limits = {name: count for name, count in counts.items() if count}
    container["resources"] = {"requests": limits, "limits": dict(limits)} if limits else {}
    return manifest


def meeting(name: str, job: str, hosts: int) -> list[str]:
    """Flags with which the processes find each other."""
    if hosts == 1:
        return []
    first = f"{name}-{job}-0-0.{name}:{PORT}"
    return [f"--coordinator={first}", f"--processes={hosts}", "--process=$(JOB_COMPLETION_INDEX)"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
