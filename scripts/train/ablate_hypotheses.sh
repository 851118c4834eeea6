#!/usr/bin/env bash
# Trains stage 1 with other shares of wrong presumptions among the questions that presume a verdict, all else equal;
# each with the shipped MIDS becomes a checkpoint that eval.py and scripts/score_answers.py compare.
# Usage: bash scripts/train/ablate_hypotheses.sh [percent...]     (0 10 25 by default; one that is finished is left as it is)
#   STEPS=720        steps of 8 samples, by default as many as the shipped model (an hour each on two cores)
#   DTYPE=float32    for a CPU that has no bfloat16 of its own (default: as configs/ffaa/mini/ has it)
#   OUT=runs/hypotheses
# Needs data/mini and runs/ffaa-mini/projector, the first two steps of the README's section Train.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# An environment that is active is used; else the one that scripts/setup.sh makes.
if [[ -z "${VIRTUAL_ENV:-}" && -d .venv/bin ]]; then export PATH="$PWD/.venv/bin:$PATH"; fi

out="${OUT:-runs/hypotheses}"
steps="${STEPS:-720}"
options=(--feature_cache "$out/features") # the pictures are the same in all of them
if [[ -n "${DTYPE:-}" ]]; then options+=(--dtype "$DTYPE"); fi

shares=("$@")
if ((!$#)); then shares=(0 10 25); fi
for percent in "${shares[@]}"; do # before the first is trained
    if [[ ! "$percent" =~ ^(100|[0-9]{1,2})$ ]]; then
        echo "error: $percent is no whole percentage; see the first lines of $0" >&2
        exit 2
    fi
done
for percent in "${shares[@]}"; do
    records="records-wrong$percent.jsonl"
    share="$(printf '%d.%02d' $((10#$percent / 100)) $((10#$percent % 100)))"
    python scripts/data/build_mini.py --records "$records" --wrong_share "$share"
    python train.py --config configs/ffaa/mini/mllm.yaml --data "data/mini/training/$records" --max_steps "$steps" \
        --output "$out/wrong$percent/mllm" --sample_steps 0 --validation_steps 0 "${options[@]}"
    python scripts/assemble_checkpoint.py --mllm "$out/wrong$percent/mllm" --mids playground/mini \
        --out "$out/wrong$percent/checkpoint"
done
