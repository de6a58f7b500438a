#!/bin/sh
# Makes .venv and installs what requirements.lock holds, checked by hash, and this project itself as an editable
# install. Needs one Python from 3.11 on; set PYTHON to choose it. Called by `make`.
set -eu
cd "$(dirname "$0")/.."

say() { printf '%s\n' "setup: $*"; }

fits() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

# The first Python that really runs: pyenv's shims are on PATH for versions that are not selected, and fail.
find_python() {
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.14} \
        "$HOME"/.pyenv/versions/3.1[1-9]*/bin/python3; do
        if fits "$candidate"; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
        [ -z "${PYTHON:-}" ] || break
    done
    if [ -n "${PYTHON:-}" ]; then
        say "PYTHON=$PYTHON is no Python from 3.11 on. Name another, or unset PYTHON." >&2
    else
        say "no Python from 3.11 on was found on PATH or in ~/.pyenv. Install one (Debian, Ubuntu:" \
            "apt-get install python3 python3-venv), or run: make PYTHON=/path/to/python3.12" >&2
    fi
    return 1
}

# The lock's entry of uv alone: the version line and its hashes.
uv_requirement() { awk '/^uv==/ { inside = 1 } inside { print } inside && !/\\$/ { exit }' requirements.lock; }

# A virtual environment, and uv in it, by whichever way this machine has: its own pip (the fastest), ensurepip (which
# Debian splits off into python3-venv), or a uv that is installed already.
make_venv() {
    python=$(find_python)
    say "making .venv with $("$python" --version) ($python)"
    entry=$(mktemp)
    trap 'rm -f "$entry"' EXIT
    uv_requirement >"$entry"
    options="install --quiet --no-deps --require-hashes --disable-pip-version-check -r $entry"
    # shellcheck disable=SC2086
    for way in own_pip ensurepip uv none; do
        rm -rf .venv
        case $way in
        own_pip)
            "$python" -m venv --without-pip .venv 2>/dev/null &&
                "$python" -m pip --python .venv/bin/python $options 2>/dev/null && return
            ;;
        ensurepip) "$python" -m venv .venv >/dev/null 2>&1 && .venv/bin/python -m pip $options && return ;;
        uv)
            command -v uv >/dev/null 2>&1 && uv venv --quiet --python "$python" .venv &&
                uv pip install --quiet --python .venv/bin/python --no-deps --require-hashes -r "$entry" && return
            ;;
        esac
    done
    say "$python could not make a virtual environment, or the package index does not answer. Without a message" \
        "above, install the venv module (Debian, Ubuntu: apt-get install python3-venv) or uv, then run make again." >&2
    return 1
}

fits .venv/bin/python && [ -x .venv/bin/uv ] || make_venv

say "installing $(grep -c '^[a-z0-9].*==' requirements.lock) packages from requirements.lock"
.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --require-hashes -r requirements.lock
.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation -e .
touch .venv/.installed
