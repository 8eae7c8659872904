# shellcheck shell=bash
# Sourced by the launchers: make_environment DIRECTORY PACKAGE makes, or reuses, a virtual environment
# with PACKAGE (such as ".[dev]") in it. PYTHON chooses the interpreter.

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.12 python3.11 python3.13 python}; do
        # Run, because a name can be a shim of pyenv without a Python behind it.
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' \
            >/dev/null 2>&1; then
            echo "$candidate"
            return
        fi
    done
    echo "error: ${PYTHON:-no python3 on the PATH} is not a Python 3.11 or newer with venv;" \
        "install one, or name it with PYTHON=/path/to/python" >&2
    return 1
}

make_environment() {
    local directory=$1 package=$2 python version constraints stamp
    python=$(find_python)
    version=$("$python" -c 'import sys; print(*sys.version_info[:2], sep=".")')
    constraints=constraints/py312.txt
    if [ "$version" = 3.11 ]; then constraints=constraints/py311.txt; fi
    stamp="$PWD $version $package $(cat pyproject.toml "$constraints" | cksum)"
    if [ "$(cat "$directory/stamp" 2>/dev/null)" = "$stamp" ]; then
        echo "environment: $directory is up to date"
        return
    fi
    if [ -e "$directory" ] && [ ! -e "$directory/pyvenv.cfg" ]; then
        echo "error: $directory is there and is no virtual environment; move it away" >&2
        return 1
    fi
    echo "environment: Python $version and $constraints into $directory (a few minutes)"
    "$python" -m venv --clear "$directory"
    "$directory/bin/python" -m pip install -qq -c "$constraints" -e "$package"
    echo "$stamp" >"$directory/stamp"
}
