#!/usr/bin/env bash
# Make .venv with all that development needs, in the versions of the constraints.
# PYTHON names the interpreter; otherwise the first one of version 3.11 or newer is used.
set -euo pipefail
cd "$(dirname "$0")/.."
here=$(pwd -P)

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3 python}; do
        if "$candidate" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' \
            >/dev/null 2>&1; then
            echo "$candidate"
            return
        fi
    done
    echo "No Python 3.11 or newer with its venv module was found${PYTHON:+ at $PYTHON}." >&2
    echo "Install one (Debian: sudo apt-get install python3.11 python3.11-venv), or" >&2
    echo "name it: make setup PYTHON=/path/to/python3.11" >&2
    return 1
}

make_venv() {
    local python
    python=$(find_python)
    echo "Making .venv with $("$python" --version) ..."
    if "$python" -c 'import ensurepip' 2>/dev/null; then
        "$python" -m venv --clear .venv
    else
        # Debian keeps ensurepip in a package of its own; pip itself can do its work.
        "$python" -m venv --clear --without-pip .venv
        "$python" -m pip --python .venv/bin/python install --quiet pip
    fi
}

# The commands of an environment name its folder: one that was moved is made anew.
is_usable() {
    .venv/bin/python -m pip --version >/dev/null 2>&1 &&
        head -c 1000 .venv/bin/pip | grep -qF "$here/.venv/bin/"
}

is_usable || make_venv

pip=(.venv/bin/python -m pip install --disable-pip-version-check
    --constraint requirements/constraints.txt)
# torch is by far the largest: a broken download shows before anything else is done.
"${pip[@]}" torch hatchling
"${pip[@]}" --no-build-isolation --editable '.[dev]'
