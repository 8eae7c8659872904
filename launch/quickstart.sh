#!/usr/bin/env bash
# From a bare clone to a trained detector, its AP and pictures: launch/quickstart.sh
# Sets up its own environment in .venv (or $BIFPN_VENV), draws its own data, needs no accelerator.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/environment.sh

environment=${BIFPN_VENV:-.venv}
workdir=${1:-runs/quickstart}
make_environment "$environment" "."
python="$environment/bin/python"

"$python" -m experiments.main --config=configs/quickstart.py --workdir="$workdir"
"$python" -m bifpn_jax predict --weights="$workdir" --output="$workdir/pictures" \
    --eval_images=12
echo "metrics: $workdir/metrics.json   pictures: $workdir/pictures   logs: $workdir/metrics.jsonl"
