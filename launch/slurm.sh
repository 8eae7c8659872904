#!/usr/bin/env bash
# Launcher: submits the command of a run as a Slurm job: launch/slurm.sh [--dry_run] COMMAND…
# The job is called after the run's --workdir and writes to log.txt in there. Ask for resources with
# sbatch's own variables: SBATCH_PARTITION, SBATCH_GPUS, SBATCH_TIMELIMIT, SBATCH_ACCOUNT, ….
set -euo pipefail

dry_run=
if [ "${1:-}" = --dry_run ]; then
    dry_run=yes
    shift
fi
workdir=
for word in "$@"; do
    case $word in --workdir=*) workdir=${word#--workdir=} ;; esac
done
if [ -z "$workdir" ]; then
    echo "error: the command has no --workdir=…, which says where the job's log goes" >&2
    exit 2
fi

options=(
    --parsable
    --job-name="$(realpath -m "$workdir")"
    --output="$workdir/log.txt"
    --open-mode=append
    --dependency=singleton  # submitted twice, the second job waits for the first
    --signal=B:TERM@120     # two minutes before the time limit the run saves and leaves
)
job="#!/usr/bin/env bash
exec $(printf '%q ' "$@")"
if [ -n "$dry_run" ]; then
    printf '%q ' sbatch "${options[@]}"
    printf '<<EOF\n%s\nEOF\n' "$job"
    exit
fi
mkdir -p "$workdir"
id=$(sbatch "${options[@]}" <<<"$job")
echo "job $id; look at it with squeue --jobs=${id%%;*}"
