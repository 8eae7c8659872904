#!/usr/bin/env bash
# Launcher: trains on all GPUs of this machine: launch/multi_gpu.sh [--dry_run] [--per_gpu] COMMAND…
# One process has them all; with --per_gpu each has one, which helps where loading images is the
# bottleneck. CUDA_VISIBLE_DEVICES=0,1 leaves the others alone.
set -euo pipefail

here=$(dirname "${BASH_SOURCE[0]}")
options=() per_gpu=''
while [[ ${1:-} == --* ]]; do
    case $1 in
        --dry_run) options+=(--dry_run) ;;
        --per_gpu) per_gpu=yes ;;
        *) echo "error: $1 is no option; launch/multi_gpu.sh [--dry_run] [--per_gpu] COMMAND…" >&2; exit 2 ;;
    esac
    shift
done

if [ -n "${CUDA_VISIBLE_DEVICES:-}" ]; then
    IFS=, read -ra gpus <<<"$CUDA_VISIBLE_DEVICES"
else
    mapfile -t gpus < <(nvidia-smi --list-gpus 2>/dev/null || true)
fi
if [ "${#gpus[@]}" = 0 ]; then
    echo "error: nvidia-smi finds no GPU here; name them with CUDA_VISIBLE_DEVICES=0,1,…" >&2
    exit 2
fi
if [ -n "$per_gpu" ]; then options+=("--processes=${#gpus[@]}"); fi
exec "$here/local.sh" "${options[@]}" "$@"
