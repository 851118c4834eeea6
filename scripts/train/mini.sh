#!/usr/bin/env bash
# FFAA-mini from its data to a calibrated checkpoint: stage 0, stage 1, answers, MIDS in two stages, calibration.
# Called again, it goes on where it stopped.
# Usage: bash scripts/train/mini.sh
#   SEED=0           of initial weights, order and augmentation; pictures, questions and borrowed answers are the same for all
#   OUT=runs/...     from this repository; runs/ffaa-mini by default, runs/ffaa-mini-seed<SEED> for another seed than 0
#   DTYPE=float32    of training, for a CPU that has no bfloat16 of its own (default: as configs/ffaa/mini/ has it)
# Needs what `python -m ffaa.assets fetch clip_vit_b16 smollm2_135m minilm_l6 openpeople celeba_faces` fetches.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# An environment that is active is used; else the one that scripts/setup.sh makes.
if [[ -z "${VIRTUAL_ENV:-}" && -d .venv/bin ]]; then export PATH="$PWD/.venv/bin:$PATH"; fi

seed="${SEED:-0}"
if [[ ! "$seed" =~ ^(0|[1-9][0-9]{0,8})$ ]]; then
    echo "error: SEED is a whole number from 0 up, not $seed" >&2
    exit 2
fi
out=runs/ffaa-mini
if [[ "$seed" != 0 ]]; then out="runs/ffaa-mini-seed$seed"; fi
out="${OUT:-$out}"
# Each model's answers have a file of their own beside the pictures.
answers=answers.jsonl
if [[ "$out" != runs/ffaa-mini ]]; then answers="answers-$(tr -c '[:alnum:]\n' - <<<"$out").jsonl"; fi

train() { # name of a stage's YAML, flags
    local options=(--seed "$seed" --output "$out/$1")
    if [[ -n "${DTYPE:-}" ]]; then options+=(--dtype "$DTYPE"); fi
    python train.py --config "configs/ffaa/mini/$1.yaml" "${options[@]}" "${@:2}"
}

answer() { # set, flags
    python scripts/data/generate_answers.py --data "data/mini/$1" --checkpoint "$out/mllm" --answers "$answers" --block_size 32 "${@:2}"
}

# Pictures, real and forged, and their truthful five-line answers: data/mini/{training,validation,mids,calibration}.
python scripts/data/build_mini.py
# Stage 0: the projector, through throw-away heads.
train projector
# Stage 1: LoRA on the language model, and the projector, with hypotheses.
train mllm --init "$out/projector"
# Three answers of that model to pictures of people it has not seen; free ones are sampled for training, to differ more.
answer mids --temperature 0.7
answer validation
# MIDS learns to look, on truthful and borrowed answers to stage 1's pictures.
python scripts/data/borrow_answers.py
train mids_warmup
# Stage 2: MIDS learns which of the model's answers to believe.
train mids --init "$out/mids_warmup" --data "data/mini/mids/$answers" --validation "data/mini/validation/$answers"
# Both parts as one folder of safetensors, loaded back to prove it whole.
python scripts/assemble_checkpoint.py --mllm "$out/mllm" --mids "$out/mids" --out "$out/checkpoint"
# What a score is worth: P(fake) and the band in which it decides nothing, on other pictures of validation's people.
python scripts/calibrate.py --checkpoint "$out/checkpoint"
printf 'next: python eval.py --benchmark free_ma,free_people,free_jpeg --model mini --checkpoint %q\n' "$out/checkpoint"
