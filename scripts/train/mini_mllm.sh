#!/usr/bin/env bash
# Stage 1 of FFAA-mini, on two processes of a CPU, each with half the batch.
# Usage: RANKS=2 bash scripts/train/mini_mllm.sh [--flag value ...]     (scripts/train/launch.sh says what else is read)
set -euo pipefail
export CONFIG="${CONFIG:-configs/ffaa/mini/mllm.yaml}" RANKS="${RANKS:-2}"
export DEEPSPEED_CONFIG="${DEEPSPEED_CONFIG:-configs/deepspeed/zero2.json}"
exec bash "$(dirname "${BASH_SOURCE[0]}")/launch.sh" --batch_size 4 "$@"
