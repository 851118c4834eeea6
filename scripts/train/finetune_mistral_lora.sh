#!/usr/bin/env bash
# Stage 1 of FFAA as published: LoRA and the projector of LLaVA-v1.6-Mistral-7B, on two GPUs of 24 GB.
# Usage: GPUS=0,1 bash scripts/train/finetune_mistral_lora.sh [--flag value ...]     (scripts/train/launch.sh says what else is read)
set -euo pipefail
export CONFIG="${CONFIG:-configs/ffaa/mistral/mllm.yaml}" GPUS="${GPUS:-0,1}"
export DEEPSPEED_CONFIG="${DEEPSPEED_CONFIG:-configs/deepspeed/zero3.json}"
exec bash "$(dirname "${BASH_SOURCE[0]}")/launch.sh" "$@"
