#!/usr/bin/env bash
# The lint and the tests, from a bare clone: launch/test.sh [arguments of pytest, such as --slow]
# Sets up its own environment in .venv-test (or $BIFPN_VENV), with $PYTHON or the Python that is there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/environment.sh

environment=${BIFPN_VENV:-.venv-test}
make_environment "$environment" ".[dev]"

run() {
    echo "+ $*"
    "$environment/bin/python" -m "$@"
}
sources=(bifpn_jax configs experiments tests)
run ruff check "${sources[@]}"
run ruff format --check "${sources[@]}"
# A file's tests stay together: they share what takes long to compile.
run pytest --numprocesses=2 --dist=loadfile "$@"
