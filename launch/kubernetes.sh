#!/usr/bin/env bash
# Submits one run as a JobSet on several hosts of a Kubernetes cluster:
#   launch/kubernetes.sh [--dry_run] --name=NAME --image=IMAGE --claim=PVC [--hosts=N] [--gpus=M] COMMAND…
# IMAGE has this project installed; PVC is the volume claim that is mounted at /runs, where --workdir
# must lie; each of N hosts gets M GPUs. --dry_run prints the filled-in launch/kubernetes.yaml.
set -euo pipefail

dry_run='' name='' image='' claim='' hosts=1 limits='{}'
while [[ ${1:-} == --* ]]; do
    case $1 in
        --dry_run) dry_run=yes ;;
        --name=?*) name=${1#*=} ;;
        --image=?*) image=${1#*=} ;;
        --claim=?*) claim=${1#*=} ;;
        --hosts=[1-9]*) hosts=${1#*=} ;;
        --gpus=[1-9]*) limits="{nvidia.com/gpu: ${1#*=}}" ;;
        *) echo "error: $1 is no option; see the first lines of launch/kubernetes.sh" >&2; exit 2 ;;
    esac
    shift
done
if [ -z "$name" ] || [ -z "$image" ] || [ -z "$claim" ] || [ $# = 0 ]; then
    echo "error: --name, --image, --claim and a command are needed; see the first lines of $0" >&2
    exit 2
fi

# The words of the command as a JSON list, in which Kubernetes expands no $(NAME).
command=''
for word in "$@"; do
    word=${word//\\/\\\\}
    word=${word//\"/\\\"}
    word=${word//\$(/\$\$(}
    command+=", \"$word\""
done
# Quoted replacements: since bash 5.2 an & in one would stand for what it replaces.
filled=$(<"$(dirname "${BASH_SOURCE[0]}")/kubernetes.yaml")
filled=${filled//__NAME__/"$name"}
filled=${filled//__HOSTS__/"$hosts"}
filled=${filled//__IMAGE__/"$image"}
filled=${filled//__LIMITS__/"$limits"}
filled=${filled//__CLAIM__/"$claim"}
filled=${filled//__COMMAND__/"[${command#, }]"}

if [ -n "$dry_run" ]; then
    printf '%s\n' "$filled"
else
    kubectl apply --filename=- <<<"$filled"
    echo "look at it with kubectl logs --follow --selector=jobset.sigs.k8s.io/jobset-name=$name"
fi
