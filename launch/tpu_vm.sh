#!/usr/bin/env bash
# Runs a command on all hosts of a Cloud TPU slice:
#   launch/tpu_vm.sh [--dry_run] [--setup] --name=SLICE --zone=ZONE [--project=PROJECT] COMMAND…
# --setup copies the last commit to every host and installs it there first. --workdir must be on a
# file system that all hosts mount, such as Filestore. JAX finds the other hosts by itself.
set -euo pipefail

dry_run='' setup='' name='' where=()
while [[ ${1:-} == --* ]]; do
    case $1 in
        --dry_run) dry_run=yes ;;
        --setup) setup=yes ;;
        --name=?*) name=${1#*=} ;;
        --zone=?* | --project=?*) where+=("$1") ;;
        *) echo "error: $1 is no option; see the first lines of launch/tpu_vm.sh" >&2; exit 2 ;;
    esac
    shift
done
if [ -z "$name" ]; then
    echo "error: --name=SLICE is missing; gcloud compute tpus tpu-vm list shows them" >&2
    exit 2
fi

run() {
    if [ -n "$dry_run" ]; then
        printf '%q ' "$@"
        echo
    else
        "$@"
    fi
}
on_all() {
    run gcloud compute tpus tpu-vm ssh "$name" "${where[@]}" --worker=all --command="$1"
}

if [ -n "$setup" ]; then
    cd "$(dirname "${BASH_SOURCE[0]}")/.."
    archive=/tmp/bifpn_jax.tar.gz
    run git archive --prefix=bifpn_jax/ --output="$archive" HEAD
    run gcloud compute tpus tpu-vm scp "$archive" "$name:$archive" "${where[@]}" --worker=all
    on_all "tar -xzf $archive && cd bifpn_jax && python3 -m venv .venv && .venv/bin/pip install -q -e . 'jax[tpu]'"
fi
if [ $# -gt 0 ]; then
    # The environment's python, wherever the command says python.
    on_all "cd bifpn_jax && PATH=\$PWD/.venv/bin:\$PATH exec $(printf '%q ' "$@")"
fi
