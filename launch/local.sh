#!/usr/bin/env bash
# Launcher: runs the command of a run here and now: launch/local.sh [--dry_run] COMMAND…
# A place for what every run needs first, such as `module load` or `ulimit`.
set -euo pipefail

if [ "${1:-}" = --dry_run ]; then
    shift
    printf '%q ' "$@"
    echo
    exit
fi
exec "$@"
