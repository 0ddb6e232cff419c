#!/usr/bin/env bash
# One run on all workers of a TPU VM pod that exists already.
#
#   launch/tpu_pod.sh [--dry-run] NAME ZONE CONFIG WORKDIR [FLAGS...]
#
# Copies this checkout to ~/mmdjax of every worker, installs it there and runs it on all at once; what
# the workers print comes back. --dry-run prints the gcloud commands instead.
# WORKDIR is an absolute path on a file system that all workers have mounted (Filestore or another
# NFS, gcsfuse): process 0 writes there what the others read. CONFIG is a path in this checkout.
# The workers need Python 3.11 or later; PYTHON=python3.11 names it where python3 is older.
# gcloud reaches several workers through ssh-agent: first `ssh-add ~/.ssh/google_compute_engine`.
#
# Ending this command does not end the run. To stop it so that the same command goes on:
#   gcloud compute tpus tpu-vm ssh NAME --zone=ZONE --worker=all \
#     --command="pkill -TERM -f '[m]mdjax[.]main'"
set -euo pipefail

dry_run=""
if [ "${1-}" = --dry-run ]; then
  dry_run=yes
  shift
fi
allowed="allowed: [--dry-run] NAME ZONE CONFIG WORKDIR [FLAGS...]"
if [ $# -lt 4 ]; then
  echo "tpu_pod.sh: given: ${*:-nothing}; $allowed" >&2
  exit 2
fi
for argument in "${@:1:4}"; do
  if [ -z "$argument" ] || [ "${argument#-}" != "$argument" ]; then
    echo "tpu_pod.sh: '$argument' is not one of NAME ZONE CONFIG WORKDIR; $allowed" >&2
    exit 2
  fi
done
name="$1" zone="$2" config="$3" workdir="$4"
if [ "${workdir#/}" = "$workdir" ]; then
  echo "tpu_pod.sh: WORKDIR is '$workdir'; allowed: an absolute path that all workers share" >&2
  exit 2
fi

archive=mmdjax.tar.gz
checkout="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
# The remote shell reads each of these once more, so every word is quoted for it.
unpack="mkdir -p mmdjax && tar -xzf $archive -C mmdjax && cd mmdjax"
install="$(printf '%q' "${PYTHON:-python3}") -m venv .venv"
install+=" && .venv/bin/pip install -q -c constraints.txt '.[tpu]'"
run="cd mmdjax && exec .venv/bin/python -m mmdjax.main --distributed"
run+="$(printf ' %q' --config="$config" --workdir="$workdir" "${@:5}")"

do_or_print() {
  if [ -n "$dry_run" ]; then
    printf '%q ' "$@"
    echo
  else
    "$@"
  fi
}

folder=/tmp
if [ -z "$dry_run" ]; then
  folder="$(mktemp -d)"
  trap 'rm -rf "$folder"' EXIT
fi
on_all=(--zone="$zone" --worker=all)
do_or_print tar -czf "$folder/$archive" --exclude=./.git --exclude='./.venv*' --exclude=./runs \
  -C "$checkout" .
do_or_print gcloud compute tpus tpu-vm scp "$folder/$archive" "$name:$archive" "${on_all[@]}"
do_or_print gcloud compute tpus tpu-vm ssh "$name" "${on_all[@]}" --command="$unpack && $install"
do_or_print gcloud compute tpus tpu-vm ssh "$name" "${on_all[@]}" --command="$run"
