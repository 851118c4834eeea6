#!/usr/bin/env bash
# Makes .venv and installs the project with its tools into it. Does nothing when that is done already.
# Usage: bash scripts/setup.sh        (PYTHON=/path/to/python3 chooses the interpreter)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=.venv
stamp="$venv/ffaa.stamp"

fail() {
    echo "error: $*" >&2
    exit 2
}

# The first interpreter that is 3.11 or newer; the oldest first, since every dependency has wheels for it.
find_python() {
    local candidate candidates=(python3.11 python3.12 python3.13 python3.14 python3 python)
    # One that is named is taken or refused, never replaced by another.
    if [[ -n "${PYTHON:-}" ]]; then candidates=("$PYTHON"); fi
    for candidate in "${candidates[@]}"; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    if [[ -n "${PYTHON:-}" ]]; then fail "PYTHON=$PYTHON is no Python of 3.11 or newer"; fi
    fail "Python 3.11 or newer not found; install it, or name it: PYTHON=/path/to/python3 bash $0"
}

# What an installed environment depends on: the requirements, and the folder that it points into.
wanted_stamp() {
    "$1" - "$PWD" <<'PY'
import hashlib, pathlib, sys
print(hashlib.sha256(pathlib.Path("pyproject.toml").read_bytes()).hexdigest(), sys.argv[1])
PY
}

# pip draws its own progress bars on a terminal; elsewhere only the large downloads are named.
install() {
    if [[ -t 1 ]]; then
        "$venv/bin/python" -m pip install --disable-pip-version-check "$@"
    else
        "$venv/bin/python" -m pip install --disable-pip-version-check --progress-bar off "$@" |
            awk '/[0-9] (MB|GB)\)?$/ && /Downloading/ || /^(Installing|Building)/ { print substr($0, 1, 110); fflush() }'
    fi
}

python="$(find_python)"
if [[ -f "$stamp" && "$(cat "$stamp")" == "$(wanted_stamp "$python")" ]]; then
    echo "environment: $venv is up to date"
    exit 0
fi

# Made anew through a link, it would be emptied under the feet of whoever it belongs to.
if [[ -L "$venv" ]]; then fail "$venv is a link to an environment of another folder; remove the link first"; fi

# An environment does not survive a move: its scripts name the folder where it was made.
if [[ -f "$stamp" && "$(cut -d' ' -f2- "$stamp")" != "$PWD" ]] ||
    ! "$venv/bin/python" -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "environment: making $venv with $("$python" --version) ($python)"
    "$python" -m venv --clear "$venv" ||
        fail "could not make $venv; on Debian and Ubuntu: apt-get install python3-venv"
fi
echo "environment: installing into $venv (torch and its libraries are several GB the first time)"
install --editable ".[dev]" ||
    fail "pip could not install the dependencies; its message is above (network, proxy or disk?). Run this again to go on"
wanted_stamp "$python" >"$stamp"
echo "environment: $venv is ready"
