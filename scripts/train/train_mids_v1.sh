#!/usr/bin/env bash
# Stage 2 of FFAA as published: MIDS on the answers of the fine-tuned model.
# Usage: GPUS=0,1 bash scripts/train/train_mids_v1.sh [--flag value ...]     (scripts/train/launch.sh says what else is read)
set -euo pipefail
export CONFIG="${CONFIG:-configs/ffaa/mistral/mids.yaml}" GPUS="${GPUS:-0,1}"
export DEEPSPEED_CONFIG="${DEEPSPEED_CONFIG:-configs/deepspeed/zero2.json}"
exec bash "$(dirname "${BASH_SOURCE[0]}")/launch.sh" "$@"
