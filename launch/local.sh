#!/usr/bin/env bash
# Launcher: runs the command of a run here and now: launch/local.sh [--dry_run] [--processes=N] COMMAND…
# With --processes N of them train together, each on a GPU of its own where there are GPUs.
# A place for what every run needs first, such as `module load` or `ulimit`.
set -euo pipefail

dry_run='' processes=1
while [[ ${1:-} == --* ]]; do
    case $1 in
        --dry_run) dry_run=yes ;;
        --processes=[1-9]*) processes=${1#*=} ;;
        *) echo "error: $1 is no option; launch/local.sh [--dry_run] [--processes=N] COMMAND…" >&2; exit 2 ;;
    esac
    shift
done

if [ "$processes" = 1 ]; then
    if [ -z "$dry_run" ]; then exec "$@"; fi
    printf '%q ' "$@"
    echo
    exit
fi

port=$((20000 + RANDOM % 10000))
while (: <"/dev/tcp/localhost/$port") 2>/dev/null; do port=$((port + 1)); done
pids=()
for ((id = 0; id < processes; id++)); do
    words=(env "JAX_LOCAL_DEVICE_IDS=$id" "$@" "--coordinator_address=localhost:$port"
        "--process_id=$id" "--process_count=$processes")
    if [ -n "$dry_run" ]; then
        printf '%q ' "${words[@]}"
        echo '&'
    else
        "${words[@]}" &
        pids+=($!)
    fi
done
if [ -n "$dry_run" ]; then
    echo wait
    exit
fi

stop() { kill -s TERM "${pids[@]}" 2>/dev/null || true; }
trap stop INT TERM
status=0 saved=75
for pid in "${pids[@]}"; do
    while :; do
        code=0
        wait "$pid" || code=$?
        # A signal for this script interrupts the wait; the process goes on until it has saved.
        if ! kill -0 "$pid" 2>/dev/null; then break; fi
    done
    if ((code != 0 && status == 0)); then
        status=$code
        if ((code != saved)); then stop; fi
    fi
done
exit "$status"
