#!/usr/bin/env bash
# Stage 1 of FFAA as published, on LLaVA-Phi-3-mini.
# Usage: GPUS=0,1 bash scripts/train/finetune_phi_lora.sh [--flag value ...]     (scripts/train/launch.sh says what else is read)
set -euo pipefail
export CONFIG="${CONFIG:-configs/ffaa/phi/mllm.yaml}" GPUS="${GPUS:-0,1}"
export DEEPSPEED_CONFIG="${DEEPSPEED_CONFIG:-configs/deepspeed/zero3.json}"
exec bash "$(dirname "${BASH_SOURCE[0]}")/launch.sh" "$@"
