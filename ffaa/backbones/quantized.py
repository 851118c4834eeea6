"""A language model in 4 or 8 bits (bitsandbytes), for adapters to be trained on (QLoRA, arXiv 2305.14314).

Vision tower, projector and vocabulary keep their precision: they are small, and pictures suffer most.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping

import torch
from transformers import BitsAndBytesConfig
from transformers.utils import is_bitsandbytes_available

from ffaa.backbones.parts import LAYOUTS
from ffaa.types import InputError

NOT_QUANTIZED = (*sorted({name for one in LAYOUTS for name in (one.vision, one.projector)}), "lm_head")
"""Modules that stay as they are, by parts of their names."""
QUANTIZED = r"(?:language|text)_model\.(?:model\.)?layers\..*(?<!norm)\.(?:base_layer\.)?weight$"
"""Weights that are packed, by their names in the adapted model."""
_BYTES = {
    # Half a byte; a block of 64 has a scale in one byte, and 256 of these have one in four.
    "4bit": 0.5 + 1 / 64 + 4 / (64 * 256),
    # One byte, and a scale of two for each row of some thousand.
    "8bit": 1.0 + 2 / 4096,
}


def packed_bytes(kind: object) -> Mapping[str, float]:
    """Pattern of packed weights -> bytes of one; empty without quantisation.

    Raises:
        InputError: ``kind`` is not null, ``4bit`` or ``8bit``.
    """
    if kind is None:
        return {}
    if kind not in _BYTES:
        raise InputError(f"option quantize is null, 4bit or 8bit, not {kind!r}")
    return {QUANTIZED: _BYTES[str(kind)]}


def quantization(kind: str, dtype: torch.dtype) -> BitsAndBytesConfig:
    """transformers' configuration: NF4 with quantised scales and products in ``dtype``, or LLM.int8.

    Raises:
        InputError: no such kind.
    """
    packed_bytes(kind)
    skipped = [rf".*{name}" for name in NOT_QUANTIZED]
    if kind == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skipped)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        llm_int8_skip_modules=skipped,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def check_quantization(kind: object, *, whole: bool, deepspeed_stage: int = 0) -> None:
    """Whether a model can be loaded quantised here.

    Raises:
        InputError: no such kind, an assembled model, no bitsandbytes, no GPU, or weights that ZeRO-3 would cut up.
    """
    if not packed_bytes(kind):
        return
    if not whole:
        raise InputError("option quantize is for a base of the hub; what is assembled from small towers needs none")
    if deepspeed_stage == 3:
        raise InputError("option quantize: packed weights cannot be spread over ranks; use ZeRO-2 or no DeepSpeed")
    if not is_bitsandbytes_available():
        try:
            found = f"version {importlib.metadata.version('bitsandbytes')} is too old"
        except importlib.metadata.PackageNotFoundError:
            found = "it is not installed"
        raise InputError(f"option quantize needs bitsandbytes, and {found}: pip install -e '.[train]'")
    if not torch.cuda.is_available():
        raise InputError("option quantize needs a GPU, and torch finds none")
