#!/usr/bin/env bash
# Launcher: submits the command of a run as a Slurm job:
#   launch/slurm.sh [--dry_run] [--nodes=N] [--tasks_per_node=M] COMMAND…
# The job is called after the run's --workdir and writes to log.txt in there. Ask for resources with
# sbatch's own variables: SBATCH_PARTITION, SBATCH_GPUS, SBATCH_TIMELIMIT, SBATCH_ACCOUNT, ….
# With N nodes, M tasks on each train together, in the order that Slurm gives JAX. On GPUs each task
# takes one: M is SBATCH_GPUS_PER_NODE, or JAX_LOCAL_DEVICE_IDS=0,1,… gives a single task them all.
set -euo pipefail

dry_run='' nodes='' tasks=1 workdir=''
while [[ ${1:-} == --* ]]; do
    case $1 in
        --dry_run) dry_run=yes ;;
        --nodes=[1-9]*) nodes=${1#*=} ;;
        --tasks_per_node=[1-9]*) tasks=${1#*=} ;;
        *) echo "error: $1 is no option; see the first lines of launch/slurm.sh" >&2; exit 2 ;;
    esac
    shift
done
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
)
# Two minutes before the time limit the run saves and leaves: the job's shell, which has become the
# run, gets the signal (B:), or the tasks do.
if [ -z "$nodes" ] && [ "$tasks" = 1 ]; then
    options+=(--signal=B:TERM@120)
    run=()
else
    options+=("--nodes=${nodes:-1}" "--ntasks-per-node=$tasks" --signal=TERM@120)
    run=(srun --kill-on-bad-exit=1)
fi
job="#!/usr/bin/env bash
exec $(printf '%q ' "${run[@]}" "$@")"
if [ -n "$dry_run" ]; then
    printf '%q ' sbatch "${options[@]}"
    printf '<<EOF\n%s\nEOF\n' "$job"
    exit
fi
mkdir -p "$workdir"
id=$(sbatch "${options[@]}" <<<"$job")
echo "job $id; look at it with squeue --jobs=${id%%;*}"
