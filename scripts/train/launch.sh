#!/usr/bin/env bash
# What the scripts beside it share: one `deepspeed` line over train.py. Not meant to be called by itself.
# From the environment, in place of what the caller says:
#   CONFIG            stage to train, a YAML of configs/
#   GPUS              indices on this machine, such as 0,1,2,3; or RANKS, so many processes on the CPU
#   HOSTFILE          of several machines, a line each: "node1 slots=8"; GPUS is not read then
#   DEEPSPEED_CONFIG  JSON of configs/deepspeed/
#   MASTER_PORT       at which ranks meet
# All arguments go to train.py, where they win over the YAML.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# An environment that is active is used; else the one that scripts/setup.sh makes.
if ! command -v deepspeed >/dev/null && [[ -d .venv/bin ]]; then export PATH="$PWD/.venv/bin:$PATH"; fi

fail() {
    echo "error: $*" >&2
    exit 2
}

command -v deepspeed >/dev/null || fail "deepspeed is not installed: pip install -e '.[train]'"
[[ -n "${CONFIG:-}" ]] || fail "CONFIG names no YAML; call a script beside this one"
[[ -f "$CONFIG" ]] || fail "no such file: $CONFIG"
[[ -f "$DEEPSPEED_CONFIG" ]] || fail "no such file: $DEEPSPEED_CONFIG"
[[ -z "${HOSTFILE:-}" || -f "$HOSTFILE" ]] || fail "no such file: $HOSTFILE"

where=(--master_port "${MASTER_PORT:-29500}")
if [[ -n "${RANKS:-}" ]]; then
    [[ "$RANKS" =~ ^[1-9][0-9]*$ ]] || fail "RANKS is a number of processes, not $RANKS"
    # A thread each: ranks that share cores would wait for one another.
    export DS_ACCELERATOR=cpu OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
    where+=(--num_accelerators "$RANKS")
    set -- --device cpu "$@"
elif [[ -n "${HOSTFILE:-}" ]]; then
    where+=(--hostfile "$HOSTFILE")
else
    [[ "${GPUS:-}" =~ ^[0-9]+(,[0-9]+)*$ ]] || fail "GPUS lists indices such as 0,1, not ${GPUS:-nothing}"
    where+=(--include "localhost:$GPUS")
fi

exec deepspeed "${where[@]}" --no_local_rank train.py --config "$CONFIG" --deepspeed "$DEEPSPEED_CONFIG" "$@"
