#!/usr/bin/env bash
# Trains MIDS in other ways, each with 150 steps of warm-up and 85 of stage 2 (the shipped one had 300 and 255), from the
# same answers, for scripts/ablate.py.
# Usage: bash scripts/train/ablate_mids.sh [variant...]     (all by default; one that is finished is left as it is)
#   DTYPE=float32    for a CPU that has no bfloat16 of its own (default: as configs/ffaa/mini/ has it)
#   as_is            the shipped way, as long as the others
#   mask_taught      with a loss that teaches where a picture was edited
#   unmasked         answers with their verdict
#   no_padding_mask  padding is attended to, as in the reference
#   reinitialised    the trained vision layers start from random weights, as in the reference
#   bgr              swapped colour channels, as the reference trained
# Needs pictures and answers of the model that is to be judged:
#   python scripts/data/build_mini.py && python scripts/data/borrow_answers.py
#   python scripts/data/generate_answers.py --data data/mini/mids --checkpoint playground/mini --block_size 32 --temperature 0.7
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# An environment that is active is used; else the one that scripts/setup.sh makes.
if [[ -z "${VIRTUAL_ENV:-}" && -d .venv/bin ]]; then export PATH="$PWD/.venv/bin:$PATH"; fi

out="${OUT:-runs/ablations}"
warmup_steps=150
steps=85

change() { # variant -> the line of `mids:` in model.yaml that differs
    case "$1" in
        as_is | mask_taught) ;;
        unmasked) echo "s/mask_answers: true/mask_answers: false/" ;;
        no_padding_mask) echo "s/^mids:/mids:\n  padding_mask: false/" ;;
        reinitialised) echo "s/^mids:/mids:\n  reinit_unfrozen: true/" ;;
        bgr) echo "s/^mids:/mids:\n  channel_order: bgr/" ;;
        *) echo "error: no variant $1; see the first lines of $0" >&2 && exit 2 ;;
    esac
}

variants=("$@")
if ((!$#)); then variants=(as_is mask_taught unmasked no_padding_mask reinitialised bgr); fi
for name in "${variants[@]}"; do change "$name" >/dev/null; done # before the first is trained
for name in "${variants[@]}"; do
    edit="$(change "$name")"
    mkdir -p "$out/$name/model"
    sed -e "$edit" configs/ffaa/mini/model.yaml >"$out/$name/model/model.yaml"
    options=()
    if [[ -n "${DTYPE:-}" ]]; then options+=(--dtype "$DTYPE"); fi
    if [[ "$name" == mask_taught ]]; then options+=(--options.mask_weight 1.0); fi
    python train.py --config configs/ffaa/mini/mids_warmup.yaml --model "$out/$name/model" --max_steps $warmup_steps \
        --output "$out/$name/warmup" ${options[@]+"${options[@]}"}
    python train.py --config configs/ffaa/mini/mids.yaml --model "$out/$name/model" --max_steps $steps \
        --validation null --init "$out/$name/warmup" --output "$out/$name" ${options[@]+"${options[@]}"}
done
